"""The base of everything that a human writes down and the program believes."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Model(BaseModel):
    """Strict (no coercion), closed (no unknown key) and frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def first_problem(error: ValidationError) -> str:
    """The first complaint of a validation as `where: what`, on one line."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the document"
    what = problem["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    return f"{where}: {what}" + (f" (and {more} more)" if more else "")
