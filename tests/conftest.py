"""What all tests share: the fixtures live in tests/fixtures/, one file per thing that they provide."""

from tests.fixtures.chance import repeat_property_tests

repeat_property_tests()

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.ring",
    "tests.fixtures.shop",
    "tests.fixtures.versions",
    "tests.fixtures.web",
]
