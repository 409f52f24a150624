"""What lies over the list: a question that needs a yes, and all there is to say of one job."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from orchestrator.errors import Error

LOOK_EVERY = 2.0


class Confirm(ModalScreen[bool]):
    """One question that only y answers with yes."""

    CSS = """
    Confirm { align: center middle; }
    Confirm Static { width: auto; max-width: 76; padding: 1 3; border: round; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "dismiss(True)"), Binding("n,escape,enter,q", "dismiss(False)")]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(f"{self._question}\n\ny yes · n no", markup=False)


class Details(Screen[None]):
    """What there is to say of one job, and the end of its log as it grows."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss")]

    def __init__(self, details: Callable[[], list[str]]) -> None:
        super().__init__()
        self._details = details

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static("looking ...", id="told", markup=False)
        yield Static("arrows scroll · esc goes back", classes="keys", markup=False)

    def on_mount(self) -> None:
        self.set_interval(LOOK_EVERY, self._look)
        self._look()

    def _look(self) -> None:
        self.run_worker(self._tell, thread=True, exclusive=True)

    def _tell(self) -> None:
        try:
            lines = self._details()
        except Error as error:
            lines = [str(error)]
        self.app.call_from_thread(self.query_one("#told", Static).update, "\n".join(lines))
