"""Image sources: which images there are, where their bytes lie, their labels and their splits. No image is opened.

    folder       class folders, or SUN397's layout (ClassName.txt, Training_NN.txt, Testing_NN.txt)
    tar          such a folder in a tar or tar.gz
    parquet      files with the images in them, as the Hugging Face Hub holds them
    webdataset   tars with KEY.jpg and KEY.cls, KEY.json or KEY.txt
    table        CSV, JSON lines or Parquet of path,label[,split]

Each format finds images (`Found`); what they have in common, labels and splits, comes after.
"""

from sunspark.data.sources.listing import (
    IMAGE_SUFFIXES,
    Container,
    ListedImage,
    Listing,
    is_hidden,
    is_image_name,
)
from sunspark.data.sources.scan import Scan
from sunspark.data.sources.source import SourceFormat, list_source

__all__ = [
    "IMAGE_SUFFIXES",
    "Container",
    "ListedImage",
    "Listing",
    "Scan",
    "SourceFormat",
    "is_hidden",
    "is_image_name",
    "list_source",
]
