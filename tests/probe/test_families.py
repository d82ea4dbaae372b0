"""A sample of the sweep over families: the smallest networks, against brute force with axes labelled by hand."""

import pytest

from benchmarks import families


@pytest.mark.parametrize("family", ["timm byobnet", "timm convnext", "timm vision_transformer", "torchvision mnasnet"])
def test_every_activation_of_a_family_is_counted_as_brute_force_counts_it(family: str) -> None:
    line = families.examined(family, families.FAMILIES[family])
    assert int(line["activations"]) > 3 and line["exact"] == line["activations"], line


def test_a_wrong_count_a_missing_one_and_a_refused_one_are_set_apart() -> None:
    right = families.Counted("a", 8, 4.0, 1, 0)
    theirs = [right, families.Counted("b", 8, 4.0, 1, 0), families.Counted("c", 8, 4.0, 1, 0),
              families.Counted("d.()", 8, 4.0, 1, 0)]  # fmt: skip
    ours = [right, families.Counted("b", 4, 4.0, 1, 0), families.Counted("c", None, None, None, None, "why"),
            families.Counted("e.sin()", None, None, None, None, "sine")]  # fmt: skip
    line = families.judged("x", ours, theirs)
    assert (line["activations"], line["exact"], line["wrong"]) == ("4", "1", "1")
    assert line["not_counted"] == "1 x why; 1 x not seen" and line["also_named"] == "1 x sin(): sine"
