"""`sunspark ingest SOURCE DATASET`: turn images into a dataset, with Spark or without."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from tyro.conf import Positional

import sunspark
from sunspark.command_line import command, config_path, parse
from sunspark.commands.arguments import ConfigFileArguments
from sunspark.commands.text import Outcome, summary
from sunspark.config import load
from sunspark.data.ingest import IngestConfig
from sunspark.data.leaks import leaks_in_words

_DESCRIPTION = """Turn images into a dataset, with Spark or without.

SOURCE is a folder of class folders, or in SUN397's layout (ClassName.txt, Training_NN.txt, ...); a .tar or .tar.gz
of such a folder; Parquet with the images in it; WebDataset shards; or a table of path,label[,split]. What it is, is
seen; --source-format says it. It may lie in s3://, gs:// or hdfs://.
Images that cannot be decoded go to the quarantine table with their reason.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments(ConfigFileArguments):
    """The command line."""

    source: Positional[str]
    """Folder, archive, Parquet, shards or table of images."""
    dataset: Positional[str]
    """Folder to write the dataset to."""
    config: Annotated[IngestConfig, tyro.conf.arg(name="")] = field(default_factory=IngestConfig)


def run(argv: Sequence[str]) -> Outcome:
    """Parse `argv` and ingest."""
    path = config_path(argv)
    defaults = {"config": load(IngestConfig, path)} if path else {}
    arguments = parse(Arguments, argv, prog="sunspark ingest", description=_DESCRIPTION, defaults=defaults)
    result = sunspark.ingest(arguments.source, arguments.dataset, arguments.config)
    found = [f"{pair}: {images:,}" for pair, images in result.leaks.items()]
    leaks = leaks_in_words(found, result.unpaired_splits, result.splits)
    look = f"\nlook at it: {command('inspect', result.dataset)}"
    return Outcome(
        result=result, text=summary(result, leave_out=("unpaired_splits",), words={"leaks": leaks}) + "\n" + look
    )
