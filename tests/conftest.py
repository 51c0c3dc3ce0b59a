"""What all tests share: the fixtures live in tests/fixtures/, one file per thing that they provide."""

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.ring",
    "tests.fixtures.shop",
    "tests.fixtures.versions",
    "tests.fixtures.web",
]
