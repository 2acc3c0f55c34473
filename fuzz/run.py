"""Builds the fuzz targets and runs each for its share of the time: `run.py SECONDS [TARGET…]`.

libFuzzer is driven by coverage that any stable compiler can record (`sancov-module`), so neither a nightly toolchain
nor cargo-fuzz is needed; a C++ compiler is. The corpus starts from tests/vectors, the examples and `regressions/`, and
grows in `corpus/`, which is nobody's to commit. A finding is left in `findings/`, with the command that runs it again.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGETS = ("frames", "worker_stream", "client_stream", "config", "native_fields")
FLAGS = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
]
LONGEST = {
    "frames": 16_384,
    "worker_stream": 4_096,
    "client_stream": 4_096,
    "config": 8_192,
    "native_fields": 1_024,
}
REQUESTS = [
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: u\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
]


def host() -> str:
    """This machine's target. Named to cargo, it keeps the flags away from build scripts and macros."""
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return next(line.removeprefix("host: ") for line in told.splitlines() if line.startswith("host: "))


def build() -> Path:
    """All targets; the folder they are in."""
    triple = host()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "fuzz"
    environment = os.environ | {"RUSTFLAGS": " ".join(FLAGS), "CARGO_TARGET_DIR": str(target)}
    command = ["cargo", "build", "--release", "--locked", "--bins", "--target", triple]
    subprocess.run(command, cwd=HERE, env=environment, check=True)
    return target / triple / "release"


def seeds(target: str) -> Iterator[bytes]:
    """What the corpus of a target starts from."""
    vectors = json.loads((ROOT / "tests" / "vectors" / "nats-frames.json").read_text(encoding="utf-8"))
    frames = [bytes.fromhex(vector["hex"]) for vector in vectors]
    cuts = b"\x03\x05\x14\x40"
    if target == "frames":
        yield from frames
    elif target == "worker_stream":
        for frame in frames:
            yield cuts + b"MSG nylon.g.call 1 _INBOX.x.1 %d\r\n%b\r\n" % (len(frame), frame)
        yield cuts + b"PING\r\nHMSG a 2 b 12 15\r\nNATS/1.0\r\n\r\nabc\r\nMSG c 9 3\r\nxyz\r\n+OK\r\n"
    elif target == "client_stream":
        yield from (cuts + request for request in REQUESTS)
    elif target == "native_fields":
        # One field, and a list that holds it.
        field = struct.pack("<4H i2I", 8, 12, 4, 8, 8, 8, 12) + b"\1\0\0\0x\0\0\0\2\0\0\0ab\0\0"
        yield struct.pack("<I", 12) + field
        yield struct.pack("<I 2H2H i 3I", 12, 6, 8, 4, 0, 8, 4, 1, 12) + field
    else:
        texts = [*ROOT.glob("examples/*/*.yaml"), *ROOT.glob("rust/config/tests/data/**/*.y*ml")]
        yield from (path.read_bytes() for path in sorted(texts))


def run(program: Path, target: str, seconds: int) -> bool:
    """One target; whether it found nothing."""
    corpus, findings = HERE / "corpus" / target, HERE / "findings" / target
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    for kept in sorted((HERE / "regressions" / target).glob("*")):
        shutil.copy(kept, corpus)
    command = [
        str(program),
        str(corpus),
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST[target]}",
        "-timeout=5",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={findings}/",
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + 120)
    lines = done.stderr.splitlines()
    runs = next((line.split()[-1] for line in lines if "number_of_executed_units" in line), "?")
    covered = next((line.split("cov: ")[1].split()[0] for line in reversed(lines) if "cov: " in line), "?")
    print(f"{target:14} {seconds:4} s {runs:>10} inputs, {covered} places: ", end="", flush=True)
    if done.returncode == 0:
        print("nothing found")
        return True
    print(f"FOUND SOMETHING (exit {done.returncode})\n" + "\n".join(lines[-40:]))
    for finding in sorted(findings.iterdir()):
        print(f"again: {program} {finding}")
    return False


def main() -> int:
    """Shares the time out."""
    total, chosen = int(sys.argv[1]), sys.argv[2:] or list(TARGETS)
    if unknown := set(chosen) - set(TARGETS):
        print(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    programs = build()
    sound = [run(programs / target, target, max(1, total // len(chosen))) for target in chosen]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
