"""`nylon check` reads the libraries of native plugins without running anything of them."""

from __future__ import annotations

from pathlib import Path

from support.native import compiler, run_compiler

CONFIG = "http: [127.0.0.1:0]\nplugins:\n"


def build(folder: Path, name: str, source: str) -> None:
    (folder / "source.c").write_text(source)
    run_compiler([compiler(), "-shared", "-fPIC", "-o", folder / name, folder / "source.c"])


def test_check_tells_which_symbols_a_library_lacks_without_running_it(nylon, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    build(
        tmp_path,
        "auth.so",
        "#include <fcntl.h>\n"
        f'__attribute__((constructor)) static void run(void) {{ creat("{ran}", 0600); }}\n'
        "void initialize(const char *config, int len) { (void)config; (void)len; }\n",
    )
    path = tmp_path / "nylon.yaml"
    path.write_text(CONFIG + "  - {name: auth, file: auth.so}\n")
    found = nylon("check", "-c", str(path))
    assert found.code == 1
    assert (
        f"error: {path}:3:12: plugin `auth`: cannot load `{tmp_path / 'auth.so'}`: it lacks the symbols "
        in found.err
    )
    assert "`event_stream`" in found.err
    assert "`initialize`" not in found.err
    assert not ran.exists()


def test_check_warns_of_a_library_whose_absence_the_configuration_bears(nylon, tmp_path: Path) -> None:
    (tmp_path / "auth.so").write_text("no library\n")
    path = tmp_path / "nylon.yaml"
    path.write_text(
        CONFIG
        + "  - {name: auth, file: auth.so, on_load_error: isolate}\n"
        + "  - {name: none, file: none.so, on_load_error: isolate}\n"
    )
    found = nylon("check", "-c", str(path))
    assert found.code == 0, found.err
    assert "warning" in found.err
    assert "it is no shared library" in found.err
    assert found.err.count("none.so`") == 1, found.err
