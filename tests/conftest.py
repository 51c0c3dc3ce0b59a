"""What all tests share: the fixtures live in tests/fixtures/, one file per thing that they provide."""

import pytest

from tests.fixtures.chance import repeat_property_tests

repeat_property_tests()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: a core would be idle while the other one does the last of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.ring",
    "tests.fixtures.shop",
    "tests.fixtures.versions",
    "tests.fixtures.web",
]
