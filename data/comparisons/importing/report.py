"""The report of an import: what happened to every record."""

from pydantic import BaseModel

from data.comparisons.importing.joining import Contradiction, Judged, Place

SHOWN = 20  # problems, in messages; a report has all of them


class Dropped(BaseModel):
    """A record, or a ranking in it, that was not imported."""

    file: str
    line: int  # the item's or row's number where there are no lines
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


class Cycle(BaseModel):
    """Pairs that were not imported because one labeler's judgments contradict each other."""

    labeler: str
    prompt: str
    places: list[Place]  # file and line of each

    def __str__(self) -> str:
        places = ", ".join(f"{p.file}:{p.line}" for p in self.places[:SHOWN])
        return f"{places}: the pairs of labeler {self.labeler!r} contradict each other"


class ImportReport(BaseModel):
    """Counts of records and rankings, and every problem with its place."""

    files: list[str] = []
    rows: int = 0  # records read
    kept: int = 0  # rankings added
    already_there: int = 0  # rankings that the collection held before
    repeated: int = 0  # the same judgment once more in this import
    without_ranking: int = 0  # records in which nothing is ranked
    joined_pairs: int = 0  # so many pairs became
    joined_rankings: int = 0  # so many rankings
    dropped: list[Dropped] = []
    contradictions: list[Cycle] = []

    def note(self, result: Dropped | Contradiction | None) -> None:
        """Counts a result that is no ranking; None is a record in which nothing is ranked."""
        if result is None:
            self.without_ranking += 1
        elif isinstance(result, Dropped):
            self.dropped.append(result)
        else:
            self.contradictions.append(Cycle(**result._asdict()))

    def note_ranking(self, judged: Judged, outcome: str) -> None:
        """Counts a ranking that is "kept", "already_there" or "repeated"."""
        setattr(self, outcome, getattr(self, outcome) + 1)
        if len(judged.ranking.responses) > 2 and len(judged.places) > 1:
            self.joined_rankings += 1
            self.joined_pairs += len(judged.places)
        else:
            self.repeated += len(judged.places) - 1

    def counts(self) -> dict[str, int]:
        """The numbers alone."""
        numbers: dict[str, int] = self.model_dump(exclude={"files", "dropped", "contradictions"})
        return {**numbers, "dropped": len(self.dropped), "contradictions": len(self.contradictions)}

    def problems(self) -> list[str]:
        """The first problems, a line each."""
        problems = [*self.dropped, *self.contradictions]
        more = [f"(and {len(problems) - SHOWN:,} more)"] if len(problems) > SHOWN else []
        return [*map(str, problems[:SHOWN]), *more]
