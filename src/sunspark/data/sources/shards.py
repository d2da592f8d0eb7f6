"""Whether the files of a set are all there: each says of how many it is one (`train-00000-of-00005.parquet`).

Source of the names: the Hugging Face Hub, and WebDataset's sets there. What follows the numbers may differ.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from sunspark.errors import SourceError, first_five, plural

_ONE_OF_MANY = re.compile(r"(.*)\b(\d{5,6})-of-(\d{5,6})\b")


def refuse_missing_shards(source: str, names: Iterable[str]) -> None:
    """SourceError where files of the folder `source` say that there are more of them: a part is not the whole."""
    there: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in names:
        if match := _ONE_OF_MANY.match(name):
            there[match[1], match[3]].add(int(match[2]))
    for (prefix, total), numbers in there.items():
        if len(numbers) < int(total):
            first = int(int(total) in numbers)  # some count from 1
            missing = [number for number in range(first, int(total) + first) if number not in numbers]
            raise SourceError(
                f"{source} holds {len(numbers)} of the {plural(int(total), 'file')} {prefix}*-of-{total}: "
                f"{first_five(f'{number:0{len(total)}}' for number in missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing; download the rest, or take `-of-{total}` out of the "
                "names to ingest what is there"
            )
