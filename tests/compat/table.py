"""The matrix as docs/compatibility.md shows it, between two marks."""

from harness.broker import REPOSITORY

PAGE = REPOSITORY / "docs" / "compatibility.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"

YES, FAILS = "yes", "fails"


def render(cells: dict[tuple[str, str], str], clients: dict[str, str], columns: list[str]) -> str:
    """One row a client, one column a cell; what a client does not have is a footnote."""
    notes: list[str] = []

    def show(cell: str) -> str:
        if cell in (YES, FAILS):
            return cell
        if cell not in notes:
            notes.append(cell)
        return f"– [{notes.index(cell) + 1}]"

    lines = [f"| client | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for name, version in clients.items():
        shown = [show(cells[name, column]) for column in columns]
        lines.append(f"| {name} {version} | {' | '.join(shown)} |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n".join(lines)


def committed() -> str:
    """The table as the page has it."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def write(table: str) -> None:
    """Puts the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")
