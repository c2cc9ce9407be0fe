"""The widgets of the page, and their event handlers."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

from saliency_vae.app.answers import PageAnswers
from saliency_vae.app.pictures import MAPS, bars, beside, legend, map_tile, photograph, view_tiles
from saliency_vae.runtime.extras import importing
from saliency_vae.runtime.text import one_line, printable
from saliency_vae.visualization import Explanation
from saliency_vae.visualization.explanation_files import write_arrays

DECISION = "the classifier's decision"
_PERCENT_KEPT = 10  # initial share of the pixels
_MOST_OFFERED = 100  # explanations whose files are kept for download
_LONGEST = 1024  # most pixels on the longer side of the maps in them
CSS = """
.gradio-container {max-width: 1280px !important; margin: 0 auto !important}
.measured {padding: 2px 4px 8px}
.measured h3 {margin: 0 0 8px; font-size: 1rem}
.measured .row {display: grid; grid-template-columns: 11rem 1fr 4.5rem 13rem; gap: 12px;
  align-items: center; margin: 5px 0}
.measured .track {height: 14px; border-radius: 7px; background: var(--border-color-primary);
  overflow: hidden}
.measured .fill {display: block; height: 100%; background: #4f46e5}
.measured .value {text-align: right; font-variant-numeric: tabular-nums}
.measured .note {color: var(--body-text-color-subdued)}
.beside {display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px}
.beside img {width: 100%; border-radius: 6px}
.beside figure {margin: 0}
@media (max-width: 800px) {.measured .row {grid-template-columns: 1fr 4.5rem}
  .measured .track {grid-column: 1 / -1; grid-row: 2}}
"""


class Page:
    """One page for all visitors; the state of each visitor is kept in a separate session.

    Args:
        answers: Computes what is shown.
        examples: Image files to pick from.

    Raises:
        ValueError: If Gradio is not installed.
    """

    def __init__(self, answers: PageAnswers, examples: Sequence[Path] = ()) -> None:
        self.answers = answers
        self.examples = [str(path) for path in examples]
        self.gradio = _gradio()
        self.busy = threading.Lock()  # all requests put hooks on the same network
        self.files = Path(tempfile.mkdtemp(prefix="saliency_vae_app_"))

    def close(self) -> None:
        """Remove the files that were offered for download."""
        shutil.rmtree(self.files, ignore_errors=True)

    def build(self) -> Any:
        """Lay out the widgets and return Gradio's ``Blocks``, ready to be launched."""
        gr = self.gradio
        blocks = gr.Blocks(
            title="Where did it look?", analytics_enabled=False, delete_cache=(3600, 86400)
        )
        with blocks:
            gr.Markdown(
                "# Where did the classifier look, and how sure is that?\n"
                f"{printable(self.answers.classifier.name)}"
            )
            state = {"explanation": gr.State(), "class": gr.State()}
            with gr.Row():
                with gr.Column(scale=4, min_width=280):
                    asked = self._questions()
                with gr.Column(scale=9, min_width=480):
                    shown = self._answers()
            self._connect(blocks, state, asked, shown)
        return blocks

    def _questions(self) -> dict[str, Any]:
        gr = self.gradio
        names = self.answers.classifier.categories or ()
        universal = self.answers.explainer.is_universal
        photo = gr.Image(
            label="Photograph", height=260, sources=["upload", "clipboard"], elem_id="photo"
        )
        photo.preprocess = _uploaded_file  # this package reads the file, and says what is wrong
        target = gr.Dropdown(
            choices=[(DECISION, -1), *((name, index) for index, name in enumerate(names))],
            value=-1,
            label="Class asked about",
            info=None if universal else "This explainer explains the decision alone.",
            interactive=universal,
            elem_id="target",
        )
        fraction = gr.Slider(
            1,
            100,
            value=_PERCENT_KEPT,
            step=1,
            label="Pixels kept, %",
            elem_id="kept",
        )
        kind = gr.Radio(list(MAPS), value="mean", label="Show", elem_id="kind")
        if self.examples:
            gr.Examples(
                [[path] for path in self.examples], photo, label="Examples", cache_examples=False
            )
        return {"photo": photo, "target": target, "fraction": fraction, "kind": kind}

    def _answers(self) -> dict[str, Any]:
        gr = self.gradio

        def tile(label: str, name: str) -> Any:
            return gr.Image(
                label=label, interactive=False, format="png", elem_id=name, buttons=["fullscreen"]
            )

        with gr.Row():
            shown = {
                "tile": tile("Where it looked", "tile"),
                "kept": tile("The kept pixels alone", "kept_view"),
                "left_out": tile("All but these pixels", "left_out"),
            }
        shown["legend"] = gr.Markdown(MAPS["mean"], elem_id="legend")
        shown["bars"] = gr.HTML(elem_id="bars")
        with gr.Row():
            shown["prediction"] = gr.Label(label="The classifier says", elem_id="prediction")
            with gr.Column(min_width=200):
                shown["png"] = gr.DownloadButton("Picture (PNG)", interactive=False, elem_id="png")
                shown["npz"] = gr.DownloadButton("Maps (npz)", interactive=False, elem_id="npz")
                shown["compare"] = gr.Button("Compare with other methods", elem_id="compare")
        shown["others"] = gr.HTML(elem_id="others")
        return shown

    def _connect(
        self, blocks: Any, state: dict[str, Any], asked: dict[str, Any], shown: dict[str, Any]
    ) -> None:
        """Connect the widgets to their event handlers."""
        question = [asked[name] for name in ("photo", "target", "fraction", "kind")]
        explained = state["explanation"]
        answer = [*state.values(), *(shown[name] for name in ("tile", "kept", "left_out", "bars"))]
        answer += [shown["prediction"], shown["others"], shown["legend"]]
        downloads = [shown["png"], shown["npz"]]
        # Another fraction needs a new explanation: samples and inclusion depend on it too.
        for event in (asked["photo"].change, asked["target"].change, asked["fraction"].release):
            event(self._said(self.explain), question, answer).success(
                self._said(self.offer), explained, downloads
            )
        asked["kind"].change(
            self.show, [explained, asked["kind"]], [shown["tile"], shown["legend"]]
        )
        compared = self.gradio.State()
        shown["compare"].click(self._said(self.compare), [*state.values()], compared).success(
            self.beside, [explained, compared], shown["others"]
        )
        if self.examples:
            blocks.load(lambda: self.examples[0], None, asked["photo"])

    def explain(self, photo: str | None, target: int, percent: float, kind: str) -> list[Any]:
        """Explain a new photograph, or the same one with another target or fraction."""
        if photo is None:
            return [*[None] * 8, MAPS[kind]]
        number = None if target < 0 else target
        with self.busy:
            explanation = self.answers.explain(photo, number, percent / 100)
        return [explanation, number, *self._shown(explanation, kind)]

    def show(self, explanation: Explanation | None, kind: str) -> list[Any]:
        """Show another map of the same explanation."""
        if explanation is None:
            return [None, MAPS[kind]]
        return [map_tile(explanation, kind, photograph(explanation)), legend(explanation, kind)]

    def compare(
        self, explanation: Explanation | None, target: int | None
    ) -> tuple[Explanation, str]:
        """Run other methods on the image and target of the explanation, for :meth:`beside`."""
        if explanation is None:
            raise ValueError("Expected a photograph to compare methods on. Found none.")
        with self.busy:
            found = self.answers.compare(explanation, target)
        return explanation, beside(explanation, found, photograph(explanation))

    def beside(self, explanation: Explanation | None, compared: tuple[Explanation, str]) -> str:
        """Show other methods, unless the page shows another explanation by now."""
        about, html = compared
        return html if about is explanation else ""

    def offer(self, explanation: Explanation | None) -> list[Any]:
        """Write the files that are offered for download.

        Maps of a large photograph are written smaller: at twelve megapixels they would take half a
        minute and 160 MB for each question. They hold no more than the classifier's view does.
        """
        if explanation is None:
            return [self.gradio.DownloadButton(interactive=False)] * 2
        earlier = sorted(self.files.iterdir(), key=lambda offered: offered.stat().st_mtime_ns)
        for old in earlier[: 1 - _MOST_OFFERED]:  # Gradio has copied them
            shutil.rmtree(old, ignore_errors=True)
        directory = Path(tempfile.mkdtemp(dir=self.files))
        paths = [directory / name for name in ("explanation.png", "explanation.npz")]
        explanation.save(paths[0])
        height, width = explanation.source.size
        scale = min(1.0, _LONGEST / max(height, width))
        size = max(1, round(scale * height)), max(1, round(scale * width))
        write_arrays(explanation, paths[1], size)
        return [self.gradio.DownloadButton(value=str(path), interactive=True) for path in paths]

    def _shown(self, explanation: Explanation, kind: str) -> list[Any]:
        shown = photograph(explanation)
        return [
            map_tile(explanation, kind, shown),
            *view_tiles(explanation, shown),
            bars(explanation),
            dict(explanation.prediction),
            None,  # no other method has been run
            legend(explanation, kind),
        ]

    def _said(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that an error the user can fix is shown as one line on the page."""

        @wraps(function)
        def run(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except (OSError, ValueError, RuntimeError) as error:
                line = one_line(error)
                raise self.gradio.Error(printable(line), print_exception=False) from None

        return run


def _uploaded_file(payload: Any) -> str | None:
    """Path of the uploaded file, which is left as it is."""
    return None if payload is None else payload.path


def theme() -> Any:
    """Look of the page, in fonts that every machine has."""
    gr = _gradio()
    return gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def _gradio() -> Any:
    with importing("gradio", extra="app", wanted_by="the page"):
        return import_module("gradio")
