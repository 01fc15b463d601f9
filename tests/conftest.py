"""What several tests need."""

import gzip
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from core import stage_run, tracking
from core.recorder import Recorder
from data.comparisons.ranking import Ranking
from data.tokenizer import BEGIN, END, PAD
from lightning_modules.translators.bahdanau.model import Bahdanau, BahdanauConfig
from lightning_modules.translators.base import Translator
from lightning_modules.translators.gru.model import GRU, GRUConfig
from lightning_modules.translators.luong.model import Luong, LuongConfig
from lightning_modules.translators.seq2seq.model import Seq2Seq, Seq2SeqConfig
from lightning_modules.translators.transformer.model import Transformer, TransformerConfig

PROJECT = Path(__file__).parents[1]
VOCABULARY = 30
torch.set_num_threads(1)  # models of tests are small: threads would only wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes as long as all others together comes first, so that two workers end at about the same time."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


@pytest.fixture(
    params=[
        "transformer",
        "transformer_pre",
        "luong",
        "luong_2_layers",
        "luong_no_feeding",
        "luong_concat",
        "luong_dot",
        "luong_location",
        "luong_local_m",
        "luong_local_p",
        "luong_local_p_no_feeding",
        "seq2seq",
        "seq2seq_forward",
        "bahdanau",
        "bahdanau_current",
        "gru",
        "gru_fused",
    ]
)
def translator(request: pytest.FixtureRequest) -> Translator:
    """Every kind of translator, small, with random weights."""
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "hidden_size": 16, "ff_size": 32, "num_heads": 4}
    gated = {"embedding_dim": 12, "hidden_size": 16, "maxout_size": 10}
    made = {
        "transformer": lambda: Transformer(TransformerConfig(**sizes), VOCABULARY),
        "transformer_pre": lambda: Transformer(TransformerConfig(**sizes, layer_norm="pre"), VOCABULARY),
        "luong": lambda: Luong(LuongConfig(embedding_dim=12, hidden_size=16, init=0.5), VOCABULARY),
        "luong_2_layers": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, num_layers=2, init=0.5), VOCABULARY
        ),
        "luong_no_feeding": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, input_feeding=False, init=0.5), VOCABULARY
        ),
        "luong_concat": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, score="concat", init=0.5), VOCABULARY
        ),
        "luong_dot": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, score="dot", reverse_source=False, init=0.5), VOCABULARY
        ),
        "luong_location": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, score="location", max_source_length=8, init=0.5), VOCABULARY
        ),
        "luong_local_m": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, attention="local-m", D=1, init=0.5), VOCABULARY
        ),
        "luong_local_p": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, attention="local-p", D=2, init=0.5), VOCABULARY
        ),
        "luong_local_p_no_feeding": lambda: Luong(
            LuongConfig(embedding_dim=12, hidden_size=16, attention="local-p", D=1, input_feeding=False, init=0.5),
            VOCABULARY,
        ),
        "seq2seq": lambda: Seq2Seq(Seq2SeqConfig(embedding_dim=12, hidden_size=16, init=0.5), VOCABULARY),
        "seq2seq_forward": lambda: Seq2Seq(
            Seq2SeqConfig(embedding_dim=12, hidden_size=16, num_layers=1, reverse_source=False, init=0.5), VOCABULARY
        ),
        "bahdanau": lambda: away_from_0(Bahdanau(BahdanauConfig(**gated, attention_size=14), VOCABULARY)),
        "bahdanau_current": lambda: away_from_0(
            Bahdanau(BahdanauConfig(**gated, attention_size=14, readout="current"), VOCABULARY)
        ),
        "gru": lambda: away_from_0(GRU(GRUConfig(**gated, rank=8), VOCABULARY)),
        "gru_fused": lambda: away_from_0(GRU(GRUConfig(**gated, reset="fused"), VOCABULARY)),
    }
    return made[request.param]().eval()


def away_from_0(model: Translator) -> Translator:
    """Weights uniform in +-.5: the papers' first weights are so small that all translations are alike."""
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return model


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three pairs of unlike lengths."""
    source = torch.tensor([[5, 6, 7, 8, END], [9, 10, END, PAD, PAD], [11, END, PAD, PAD, PAD]])
    target = torch.tensor([[BEGIN, 12, 13, END], [BEGIN, 14, END, PAD], [BEGIN, 15, 16, END]])
    return {"source": source, "target": target}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data mirror with the layout of the real one, a few lines of each file."""
    root = tmp_path / "mirror"
    for name in ("multi30k", "e2e"):
        (root / name).mkdir(parents=True)
    for split, count in (("train", 60), ("val", 5), ("test_2016_flickr", 5)):
        for language, word in (
            ("en", "A dog runs, number"),
            ("de", "Ein Hund läuft, Nummer"),
            ("fr", "Un chien court, numéro"),
        ):
            text = "".join(f"{word} {split} {i}.\n" for i in range(count))
            (root / "multi30k" / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("trainset", "devset", "testset_w_refs"):
        rows = "".join(
            f'"name[{name} {i // 2}], food[Thai]","{name} {i // 2} has Thai food, ""{i}""."\n' for i in range(40)
        )
        (root / "e2e" / f"{name}.csv.gz").write_bytes(gzip.compress(("mr,ref\n" + rows).encode()))
    monkeypatch.setenv("GRADUS_DATA", str(root))
    return root


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which a server of this machine gives its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def empty_tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty data base, made once: migrations take seconds."""
    from mlflow import MlflowClient  # a second, which most tests need not wait for

    folder = tmp_path_factory.mktemp("tracking")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def project(empty_tracking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with this project's params.yaml and an empty MLflow data base."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / "tracking").mkdir()
    shutil.copy(empty_tracking, tmp_path / "tracking" / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(tracking.PARENT_VARIABLE, raising=False)
    # This process has MLflow's client: it records for itself, at the start and at the end of a stage.
    monkeypatch.setattr(stage_run, "start_recorder", lambda: Recorder(stage_run.journals()).turn())
    tracking.client.cache_clear()
    yield tmp_path
    tracking.client.cache_clear()


@pytest.fixture
def good() -> dict[str, Any]:
    return {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 2], "labeler": "ann", "origin": "test"}


@pytest.fixture
def make(good: dict[str, Any]) -> Callable[..., Ranking]:
    """The good record with changes."""
    return lambda **changes: Ranking(**{**good, **changes})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB. Only root can make one."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]).returncode:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
