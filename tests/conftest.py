"""For every test: the name of a parameter is the same in each process that collects it."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: a packed body carries the second it was packed in."""
    return argname if isinstance(val, bytes) else None
