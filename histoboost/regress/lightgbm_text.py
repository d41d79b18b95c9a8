"""Validate LightGBM's text format before parsing.

LightGBM's parser trusts its input: most edits of a text crash or hang the process, and whoever
edits a model can recompute its digests. So only what LightGBM itself could have written is
accepted, with numbers that Python and LightGBM read alike.
"""

from __future__ import annotations

import re

from histoboost.errors import BadInput

_END = "\nend of trees\n"
_NUMBER, _INTEGER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", r"-?\d{1,9}"
_REAL_LIST, _INTEGER_LIST = (
    re.compile(rf"{each}(?: {each})*", re.ASCII) for each in (_NUMBER, _INTEGER)
)
_VERSION = re.compile(r"v\d", re.ASCII)
_LINES = re.compile(r"(?:\w+=[^=\x00-\x1f\x7f]*\n)+", re.ASCII)
_INFO = re.compile(rf"none|\[{_NUMBER}:{_NUMBER}\]", re.ASCII)
_HEADER = {"version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx"}
_HEADER |= {"objective", "feature_names", "feature_infos", "tree_sizes"}
_FIXED = {"num_class": "1", "num_tree_per_iteration": "1", "label_index": "0"}
_FIXED |= {"objective": "regression"}
_INTEGERS = ("split_feature", "left_child", "right_child", "decision_type", "internal_count")
_REALS = ("threshold", "split_gain", "internal_value", "internal_weight")
_TREE = {*_INTEGERS, *_REALS, "num_leaves", "num_cat", "is_linear", "shrinkage"}
_TREE |= {"leaf_value", "leaf_weight", "leaf_count"}


def checked_trees(text: str, name: str) -> str:
    """The trees of a model's text, all that predictions need; refuse invalid ones, by `name`.

    `text` must be a model of one target and plain regression.
    """
    head, end, _ = text.partition(_END)
    if not end or not head.startswith("tree\n"):
        raise BadInput(f"{name} is cut short; train it again")
    try:
        _check(head.removeprefix("tree\n"))
    except (ValueError, KeyError) as error:
        raise BadInput(f"{name} is not a LightGBM model ({error}); train it again") from error
    return "tree\n" + head.removeprefix("tree\n") + end


def _check(head: str) -> None:
    first, *trees = head.split("\nTree=")
    header = _fields(first)
    if set(header) != _HEADER or any(header[key] != value for key, value in _FIXED.items()):
        raise ValueError("its header is of another kind")
    if not _VERSION.fullmatch(header["version"]):
        raise ValueError("its version is none")
    features = _integers(header["max_feature_idx"], 1)[0] + 1
    for key in ("feature_names", "feature_infos"):
        words = header[key].split(" ")
        if len(words) != features or not all(words):
            raise ValueError(f"{key} does not list {features} features")
    if not all(map(_INFO.fullmatch, header["feature_infos"].split(" "))):
        raise ValueError("feature_infos are not ranges")
    # Two blank lines follow each tree; `split` and `partition` removed one.
    sizes = [len(f"Tree={tree}\n".encode()) for tree in trees]
    if header["tree_sizes"] != " ".join(map(str, sizes)):
        raise ValueError("tree_sizes are not those of its trees")
    for index, tree in enumerate(trees):
        number, _, body = tree.partition("\n")
        if number != str(index):
            raise ValueError(f"tree {index} is missing")
        if not body.endswith("\n\n"):
            raise ValueError(f"tree {index} runs into the next")
        _check_tree(_fields(body), features)


def _fields(text: str) -> dict[str, str]:
    text = text.rstrip("\n")
    if not _LINES.fullmatch(text + "\n"):
        raise ValueError("a line is not NAME=VALUE")
    lines = text.split("\n")
    fields = dict(line.split("=") for line in lines)
    if len(fields) != len(lines):
        raise ValueError("a field occurs twice")
    return fields


def _check_tree(tree: dict[str, str], features: int) -> None:
    if set(tree) != _TREE or tree["num_cat"] != "0" or tree["is_linear"] != "0":
        raise ValueError("a tree is of another kind")
    leaves = _integers(tree["num_leaves"], 1)[0]
    nodes = leaves - 1
    split, left, right, kind, _ = (_integers(tree[key], nodes) for key in _INTEGERS)
    for key in _REALS:
        _numbers(tree[key], nodes)
    _numbers(tree["leaf_value"], leaves)
    _numbers(tree["shrinkage"], 1)
    for key, kind_of in (("leaf_weight", _REAL_LIST), ("leaf_count", _INTEGER_LIST)):
        # A tree without splits, as for a constant target, may lack either.
        _numbers(tree[key], leaves if nodes or tree[key] else 0, kind_of)
    if any(not 0 <= feature < features for feature in split):
        raise ValueError("a tree splits on a feature that does not exist")
    if any(each not in range(0, 12, 2) for each in kind):
        raise ValueError("a tree has categorical splits")
    expected = [*range(-leaves, 0), *range(1, nodes)]
    after = all(child < 0 or child > at for side in (left, right) for at, child in enumerate(side))
    if nodes and (sorted(left + right) != expected or not after):
        raise ValueError("a tree is not one")


def _numbers(text: str, count: int, kind: re.Pattern[str] = _REAL_LIST) -> None:
    found = text.count(" ") + 1 if text else 0
    if found != count or (count and not kind.fullmatch(text)):
        raise ValueError(f"{count} numbers were expected")


def _integers(text: str, count: int) -> list[int]:
    _numbers(text, count, _INTEGER_LIST)
    return [int(each) for each in text.split(" ")] if text else []
