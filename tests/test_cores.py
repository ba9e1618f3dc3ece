"""What is read of the processors."""

from pathlib import Path

import pytest

from cellshed import cores


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags\t: fpu avx512f amx_bf16 avx512_fp16 amx_tile\n", True),
        ("flags\t: fpu avx512f avx512_bf16\n", False),  # vectors alone
        ("Features\t: fp asimd bf16\n", False),
    ],
)
def test_bf16_is_fast_with_matrix_units(
    text: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cores, "_CPUINFO", tmp_path / "cpuinfo")
    assert cores.cpu_multiplies_bf16() is found


def test_bf16_is_not_fast_where_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "_CPUINFO", tmp_path / "missing")
    assert not cores.cpu_multiplies_bf16()


def test_there_is_a_processor_to_use() -> None:
    assert cores.usable_cores() >= 1
