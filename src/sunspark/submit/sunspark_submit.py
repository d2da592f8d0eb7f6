"""The program for spark-submit: takes what the command `sunspark` takes; `sunspark where` prints its path.

It lies in a folder of its own, because Python puts the folder of a program before all others.
"""

from sunspark.cli import console

console()
