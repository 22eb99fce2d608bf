"""The command line of a script that trains a model and exports what it trained.

Trains and exports nothing itself.
"""

import argparse
import pathlib


def commands(description, train, export):
    """A parser with `train` and `export`, and the latter's own parser for more options."""
    parser = argparse.ArgumentParser(description=description)
    ways = parser.add_subparsers(required=True)
    steps = [("train", train, ["data_dir", "model_dir", "run_dir"]), ("export", export, ["data_dir", "model_dir", "run_dir", "out_dir"])]
    for name, run, folders in steps:
        step = ways.add_parser(name)
        for folder in folders:
            step.add_argument(folder, type=pathlib.Path)
        step.add_argument("--threads", type=int, default=2)
        step.set_defaults(run=run)
    ways.choices["train"].add_argument("--minutes", type=float, default=60.0)
    return parser, ways.choices["export"]
