"""The base of everything that a human writes down and the program believes."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Model(BaseModel):
    """Strict (no coercion), closed (no unknown key) and frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def first_problem(error: ValidationError) -> str:
    """The first complaint of a validation as `where: what`, on one line; without the where when it is about the whole.

    A list that is too short only because its items are wrong is not counted as a complaint more.
    """
    found = error.errors(include_url=False)
    problem = found[0]
    where = ".".join(str(part) for part in problem["loc"])
    what = problem["msg"].removeprefix("Value error, ")
    within = [one["loc"][:depth] for one in found for depth in range(len(one["loc"]))]
    more = sum(one["loc"] not in within for one in found[1:])
    return (f"{where}: {what}" if where else what) + (f" (and {more} more)" if more else "")
