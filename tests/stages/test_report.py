"""The report shows what was measured, and text from data as text."""

from pathlib import Path
from typing import Any

from stages.report import by_source, few_examples, held_out_labelers, render
from stages.reporting import plots

HOSTILE = "<script>alert('x')</script> & $1 <b>"
EXAMPLE = {"source": HOSTILE, "output": HOSTILE, "references": [HOSTILE]}
SCORES = {
    "bleu": 12.3, "tokenised_bleu": 13.4, "chrf": 45.6,
    "bleu_signature": "nrefs:1|version:2", "tokenised_bleu_signature": "case:lc|tok:moses", "chrf_signature": "nrefs:1",
}  # fmt: skip
TESTED = {
    "accuracy": 0.7, "log_loss": 0.6, "calibration_error": 0.02, "kendall_tau": 0.4, "comparisons": 14, "rankings": 15,
    "chance_log_loss": 0.693, "best_of_n_won_share": [0.5, 0.6], "calibration_curve": [{"confidence": 0.6, "accuracy": 0.5}],
}  # fmt: skip
FACTS: dict[str, Any] = {
    "title": HOSTILE,
    "encoded": {"train": {"pairs": 1234, "target_tokens": 5, "dropped": 6, "truncated": 0}, "unigram_perplexity": 300.0},
    "translators": {
        "luong": {
            "training": {"parameters": 1000, "seconds": 2.0, "tokens_per_second": 3.0, "validation_perplexity": 4.0},
            "test": {**SCORES, "copy_of_source": SCORES, "sentences": 7, "dropped": 8, "truncated": 0, "sentences_per_second": 9.0},
            "examples": [EXAMPLE],
        }
    },
    "language_models": {"small": {"parameters": 12, "validation_perplexity": 13.0, "seconds": 1.0, "tokens_per_second": 14.0}},
    "collections": [
        (
            "ours",
            {
        "by_reference_labeler": 10, "rankings": 11, "prompts": 9, "labelers": 3, "responses_per_ranking": {"4": 11},
        "strict_comparisons": 60, "tied_comparisons": 6, "agreement": {"strict": 0.81, "strict_pairs": 77},
    },
            {
        "grouped": {
            "config": {"training_share": 0.5, "training": {"num_train_epochs": 2}},
            "summary": {
                "trained_parameters": 1234567, "seconds": 2.0, "tokens": 98765, "dropped": {"train": 1, "test": 2}, "truncated": {"train": 0},
            },
            "curve": [{"step": 5, "validation_accuracy": 0.6, "validation_loss": 0.68}],
            "evaluation": {
                "test": TESTED, "held_out_labelers": {**TESTED, "accuracy": 0.65},
                "baselines": {"length_accuracy": 0.55, "length_prefers": "longer", "chrf_accuracy": 0.68},
                "best_of_n": {"mean_chrf": 30.0, "first_choice_chrf": 31.0, "picked_chrf": 35.0, "best_possible_chrf": 40.0},
            },
            "examples": [{"prompt": HOSTILE, "reference": HOSTILE, "responses": [[0.5, 40.0, 1, HOSTILE]]}],
        }
    },
            [],
        )
    ],
    "variants": {
        "none": {
            "summary": {
                "kept_parameters": 0, "share_of_base": 0.0, "seconds": 0.0, "test_loss": 2.5, "test_target_tokens": 16, **SCORES,
                "dropped": {"train": 0}, "truncated": {"train": 4000, "test": 21},
            },
            "examples": [EXAMPLE],
        }
    },
    "few_examples": {
        HOSTILE: [
            {"examples": 50, "seeds": 3, "test_loss": (2.125, 0.25), "bleu": (33.5, 1.5)},
            {"examples": 1500, "seeds": 3, "test_loss": (1.875, 0.125), "bleu": (44.5, 0.5)},
        ]
    },
    "written": [{"source": HOSTILE, "reference": HOSTILE, "outputs": {"none": HOSTILE}}],
    "long_lag": {
        HOSTILE: {
            "summary": {
                "weights": 156, "trials": 10, "tested": 2560, "wrong": 0.5, "seconds": 9.0,
                "criteria": {"success": {"solved": 10, "mean": 24010.0, "median": 23000.0, "published": 31390}},
            },
            "curve": [{"sequences": 100, "solved": 0}, {"sequences": 30000, "solved": 10}],
        }
    },
}  # fmt: skip


def test_text_from_data_is_escaped() -> None:
    ((name, collection, models, _),) = FACTS["collections"]
    facts = {**FACTS, "collections": [(name, collection, models, held_out_labelers(models))]}
    images = ("learning_curves", "attention_luong", "reward_ours", "prefix", "few_examples", "long_lag")
    page = render(facts, dict.fromkeys(images, b"png"))
    assert "<script" not in page
    assert "<b>" not in page
    assert page.count("&lt;script&gt;") == 13
    for shown in (
        "1,234",
        "12.3",
        "45.6",
        "13.4",
        "tok:moses",
        "70.0 %",
        "55.0 %",
        "81.0 %",
        "65.0 %",
        "1,234,567",
        "98,765",
        "68.0 %",
        "35.0",
        "No person judged them",
        "2.500",
        "2.125 &plusmn; 0.250",
        "44.5 &plusmn; 0.5",
        "24,010",
        "31,390",
    ):
        assert shown in page


def test_a_page_has_what_was_made_and_nothing_empty() -> None:
    nothing = {
        "encoded": None,
        "language_models": {},
        "translators": {},
        "variants": {},
        "few_examples": {},
        "written": [],
        "long_lag": {},
    }
    page = render({**FACTS, **nothing}, {"reward_ours": b"png"})
    assert page.count("<h2>") == page.count("<img") == 1
    assert "Rankings <code>ours</code>: reward models" in page
    page = render({**FACTS, **nothing, "collections": [], "long_lag": FACTS["long_lag"]}, {"long_lag": b"png"})
    assert page.count("<h2>") == page.count("<table>") == page.count("<img") == 1


def test_outputs_stand_under_their_own_source() -> None:
    def example(source: str, output: str) -> dict[str, Any]:
        return {"source": source, "output": output, "references": [source.upper(), "another"]}

    examples = {"none": [example("a", "1"), example("b", "2")], "prefix": [example("b", "3"), example("c", "4")]}
    assert by_source(examples) == [
        {"source": "a", "reference": "A", "outputs": {"none": "1"}},
        {"source": "b", "reference": "B", "outputs": {"none": "2", "prefix": "3"}},
        {"source": "c", "reference": "C", "outputs": {"prefix": "4"}},
    ]


def test_variants_are_averaged_over_seeds_for_each_number_of_examples() -> None:
    def variant(kind: str, examples: int, seed: int, epochs: int, loss: float, rate: float = 0.1) -> dict[str, Any]:
        training = {"num_train_epochs": epochs, "learning_rate": rate}
        config = {"kind": kind, "examples": examples, "seed": seed, "training": training}
        return {"config": config, "summary": {"examples": examples, "test_loss": loss, "bleu": 10 * loss}}

    lines = few_examples(
        {
            "words_50_1": variant("prefix", 50, 1, 4, 2.0),
            "words_50_2": variant("prefix", 50, 2, 4, 4.0),
            "words_500_1": variant("prefix", 500, 1, 2, 1.0),
            "faster_50_1": variant("prefix", 50, 1, 4, 9.0, rate=0.2),  # another way, not another seed
            "full": variant("full", 50, 1, 2, 1.0),  # one number of examples: nothing to draw
        }
    )
    assert lines == {
        "words": [
            {"examples": 50, "seeds": 2, "test_loss": (3.0, 2**0.5), "bleu": (30.0, 10 * 2**0.5)},
            {"examples": 500, "seeds": 1, "test_loss": (1.0, 0.0), "bleu": (10.0, 0.0)},
        ]
    }


def test_a_translator_without_attention_has_no_image_of_it() -> None:
    images = dict.fromkeys(("learning_curves", "reward_ours", "prefix", "few_examples", "long_lag"), b"png")
    assert "Attention of" not in render(FACTS, images)
    assert "Attention of luong" in render(FACTS, {**images, "attention_luong": b"png"})


def test_plots_show_any_text(tmp_path: Path) -> None:
    heat_map = {
        "source": ["$", "a_b$", "</s>"],
        "target": ["$x$", "\\frac"],
        "weights": [[0.1, 0.8, 0.1], [0.3, 0.3, 0.4]],
    }
    plots.attention(heat_map, "luong", tmp_path / "a.png")
    curve = [{"epoch": 1, "validation_perplexity": 40.0}, {"epoch": 2, "validation_perplexity": 20.0}]
    plots.learning_curves({"luong": curve}, 300.0, tmp_path / "b.png")
    plots.reward_models(FACTS["collections"][0][2], {"chance": 0.5}, tmp_path / "c.png")
    plots.losses({"none": 2.5, "prefix": 1.7}, tmp_path / "d.png")
    plots.long_lag(FACTS["long_lag"], tmp_path / "e.png")
    plots.few_examples(FACTS["few_examples"], tmp_path / "f.png")
    assert all((tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in "abcdef")
