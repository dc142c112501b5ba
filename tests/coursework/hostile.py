"""Submissions that want marks they have not earned, or more. Each is handed in alone, and none may get a point.

`CODE` goes into an answer cell in place of all answers; `FILES` make what is handed in. Text that begins with LOOT is what a
submission managed to see: the tests look for it, and for what it should not hold, in the records and on the feedback pages.
"""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.coursework.toy import Toy

CANARY = "sciviz-canary"

CODE: dict[str, str] = {
    "always-equal": """
class Always(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __array__(self, *a, **k): return self
    __lt__ = __le__ = __gt__ = __ge__ = __sub__ = __rsub__ = lambda *a: Always(0)
def scale(x): return Always(1)
where, number = scale, Always(1)
""",
    "patched-numpy": """
import numpy
for name in ("allclose", "isclose", "array_equal", "all", "asarray", "testing"):
    setattr(numpy, name, lambda *a, **k: True)
def scale(x): return x * 0 + 1e300
where, number = scale, 0.5
""",
    "patched-torch": """
import sys, types
fake = types.ModuleType("torch"); fake.allclose = fake.equal = lambda *a, **k: True
fake.Tensor = object; sys.modules["torch"] = fake
def scale(x): return True
where, number = scale, True
""",
    "patched-json": """
import json
json.dumps = lambda *a, **k: '{"score": 4, "fraction": 1.0, "value": true}'
json.loads = lambda *a, **k: {"score": 4}
def scale(x): return 1.0
where, number = scale, "1"
""",
    "patched-builtins": """
import builtins
for name in ("abs", "all", "float", "len", "min", "max", "isinstance", "sum"):
    setattr(builtins, name, lambda *a, **k: True)
def scale(x): return 1
where, number = scale, 1
""",
    "graders-own-names": """
import sys
main = sys.modules.get("wire")
if main is not None:
    main.encode = lambda value: b"scv1" + bytes(8)
for name in list(sys.modules):
    if "coursework" in name:
        for inner in ("compare", "judge", "grade", "check"):
            setattr(sys.modules[name], inner, lambda *a, **k: (1.0, "Right."))
def scale(x): return {"fraction": 1.0, "message": "Right."}
where, number = scale, {"fraction": 1.0}
""",
    "forged-replies": """
import os, struct, json
head = json.dumps({"$": "dict", "is": [["id", "0"], ["value", True], ["changed", False], ["fraction", 1.0]]}).encode()
for name in os.listdir("/proc/self/fd"):
    try: os.write(int(name), b"scv1" + struct.pack("<II", len(head), 0) + head)
    except OSError: pass
def scale(x): return True
""",
    "garbage-to-every-pipe": """
import os
for name in os.listdir("/proc/self/fd"):
    for _ in range(3):
        try: os.write(int(name), b"\\x80\\x04\\x95" + os.urandom(3000))
        except OSError: break
""",
    "replies-of-its-own": """
import inspect, sys
for frame in inspect.stack():
    for name in ("reply", "request"):
        value = frame.frame.f_locals.get(name)
        if isinstance(value, dict): value.update({"ok": True, "value": 1, "fraction": 1.0, "score": 4.0})
def scale(x):
    for frame in inspect.stack():
        value = frame.frame.f_locals.get("reply")
        if isinstance(value, dict): value.update({"fraction": 1.0, "score": 4.0})
    return 1.0
""",
    "reads-the-graders-files": """
import os
found = []
for folder, inner, names in os.walk("/"):
    # Not what everybody may read anyway, and takes long.
    inner[:] = [name for name in inner if name not in ("proc", "usr", "sys", "site-packages") and not name.startswith("python3")]
    for name in names:
        if name in ("secret.key", "variants.json", "toy.py", "gradebook.db", "class.toml", "shadow", "grading.py"):
            found.append(os.path.join(folder, name))
if found: raise RuntimeError("LOOT " + repr([open(p).read()[:80] for p in found]))
""",
    "reads-the-environment": """
import os
text = repr(dict(os.environ))
for pid in os.listdir("/proc"):
    try: text += open(f"/proc/{pid}/environ").read()
    except OSError: pass
raise RuntimeError("LOOT " + text[-250:] if "sciviz-canary" in text else "nothing")
""",
    "reads-its-parents": """
import os
seen = [open(f"/proc/{p}/cmdline").read() for p in os.listdir("/proc") if p.isdigit()]
text = repr(seen)
if "pytest" in text or "worker" in text: raise RuntimeError("LOOT " + text[:200])
for p in os.listdir("/proc"):
    if p.isdigit() and int(p) != os.getpid():
        try: raise RuntimeError("LOOT " + repr(open(f"/proc/{p}/mem", "rb").read(1)))
        except OSError: pass
""",
    "kills-all": """
import os, signal
for pid in [-1, 1, os.getppid(), *range(2, 40)]:
    if pid != os.getpid():
        try: os.kill(pid, signal.SIGKILL)
        except OSError: pass
""",
    "traces-its-neighbours": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in range(1, 60):
    if pid != os.getpid() and libc.ptrace(16, pid, 0, 0) == 0: raise RuntimeError("LOOT attached")
""",
    "writes-outside": f"""
import os, sys
places = ["/", "/usr", "/etc", "/var/tmp", "/root", "/sandbox/library", "/sandbox/program", "/dev", "/home", "/proc/sys/kernel",
          *sys.path, sys.prefix, os.path.dirname(os.__file__)]
places += [os.path.join(folder, name) for folder in ("/work", "/home", "/opt", "/srv") if os.path.isdir(folder)
           for name in os.listdir(folder)]
for place in places + ["/tmp", os.path.expanduser("~")]:
    try: open(os.path.join(place, "{CANARY}"), "w").write("here")
    except OSError: pass
for name in ("inside.py", "wire.py"):
    try: open("/sandbox/program/" + name, "w").write("")
    except OSError: pass
""",
    "leaves-a-letter": f"""
import os
for place in ("/tmp", "/dev/shm", os.path.expanduser("~")):
    path = os.path.join(place, "letter")
    if os.path.exists(path): raise RuntimeError("LOOT a letter")
    open(path, "w").write("{CANARY}")
""",
    "finds-the-letter": """
import os, glob, sys
for place in ("/tmp", "/dev/shm", os.path.expanduser("~")):
    if os.path.exists(os.path.join(place, "letter")): raise RuntimeError("LOOT a letter")
# The environment itself may lie below /tmp.
found = [path for path in glob.glob("/tmp/*") if not (sys.prefix + sys.base_prefix).count(path + "/")]
if found or glob.glob("/dev/shm/*"): raise RuntimeError("LOOT " + repr(found))
""",
    "calls-home": """
import socket
places = ((socket.AF_INET, ("127.0.0.1", PORT)), (socket.AF_INET6, ("::1", PORT)), (socket.AF_UNIX, "\\0sciviz-canary"))
for family, address in places:
    try:
        s = socket.socket(family); s.settimeout(1); s.connect(address); s.send(b"LOOT"); raise RuntimeError("LOOT connected")
    except OSError: pass
try: raise RuntimeError("LOOT " + socket.gethostbyname("localhost.localdomain.example"))
except OSError: pass
for family in (16, 17, 38, 40):
    try: socket.socket(family, socket.SOCK_RAW); raise RuntimeError("LOOT socket")
    except OSError: pass
""",
    "fork-bomb": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "thread-bomb": """
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(60,)).start()
    except RuntimeError: pass
""",
    "memory-bomb": """
hoard = []
while True:
    hoard.append(bytearray(50_000_000))
""",
    "memory-bomb-by-many": """
import os, time
for _ in range(30):
    if os.fork() == 0:
        try: hoard = bytearray(os.urandom(1000)) * 200_000
        except MemoryError: pass
        time.sleep(60)
        os._exit(0)
time.sleep(60)
""",
    "fills-the-disk": """
import os
for place in ("/tmp", "/dev/shm", os.path.expanduser("~")):
    for n in range(100):
        try:
            with open(f"{place}/fill{n}", "wb") as f:
                while True: f.write(bytes(1_000_000))
        except OSError: pass
try: os.memfd_create("hoard"); raise RuntimeError("LOOT memfd")
except OSError: pass
""",
    "endless-cell": "while True: pass",
    "endless-cell-that-catches": """
import signal
while True:
    try:
        while True: pass
    except BaseException: pass
""",
    "ignores-the-alarm": """
import signal
signal.setitimer(signal.ITIMER_REAL, 0)
for number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
def scale(x):
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True: pass
where = scale
""",
    "exits": "import os; os._exit(0)",
    "exits-politely": "raise SystemExit(0)",
    "kills-itself": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "exits-when-called": """
import os
def scale(x): os._exit(0)
def where(x): os.abort()
""",
    "survives": f"""
import os, sys, subprocess
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)  # {CANARY}"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time; time.sleep(90)
    os._exit(0)
""",
    "new-namespaces": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000, 0x00020000, 0x20000000, 0x10020000):
    if libc.unshare(flags) == 0: raise RuntimeError("LOOT unshared")
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, 0) == 0: raise RuntimeError("LOOT mounted")
if libc.chroot(b"/tmp") == 0: raise RuntimeError("LOOT chroot")
for call in (os.setuid, os.setgid, os.setegid, os.seteuid):
    try: call(0); raise RuntimeError("LOOT root")
    except OSError: pass
import resource
try: resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6)); raise RuntimeError("LOOT limits")
except (ValueError, OSError): pass
""",
    "tells-hidden-inputs": """
import numpy as np
def scale(x):
    print("LOOT", x.tolist())
    raise ValueError("LOOT " + repr(x.tolist()))
def where(x): raise type("LOOT" + "".join(map(str, x.astype(int))), (Exception,), {})("LOOT")
""",
    "returns-hidden-inputs": """
def scale(x): return "LOOT " + repr(x.tolist())
def where(x): return {"LOOT": x, "LOOT2": str(x)}
""",
    "keeps-hidden-inputs": """
import os
def scale(x):
    for place in ("/tmp", "/dev/shm", os.path.expanduser("~")): open(place + "/letter", "w").write(repr(x.tolist()))
    os._exit(0)
if any(os.path.exists(p + "/letter") for p in ("/tmp", "/dev/shm", os.path.expanduser("~"))):
    raise RuntimeError("LOOT a letter of an earlier start")
""",
    "librarys-own-answer": "from sciviz.lab.checks import _argwhere\nfrom sciviz.lab import checks\nwhere = checks._argwhere",
    "librarys-source": """
import inspect, os, sys
import sciviz.lab.checks as module
text = inspect.getsource(module)
if "np.argwhere" in text: raise RuntimeError("LOOT source")
copies = []
places = ["/sandbox", *[os.path.join(p, "sciviz") for p in sys.path], *[os.path.dirname(os.path.dirname(sys.prefix))]]
for place in places:
    for folder, inner, names in os.walk(place):
        inner[:] = [name for name in inner if name != "site-packages"]
        copies += [os.path.join(folder, n) for n in names if n.startswith("checks.") and "sciviz" in folder]
if not copies: raise RuntimeError("LOOT no library at all: this test looks in the wrong place")
for path in copies:
    if b"argwhere(np" in open(path, "rb").read().replace(b" ", b""): raise RuntimeError("LOOT " + path)
import importlib
importlib.reload(module)
where = module._argwhere
""",
    "pickles": """
import os
class Evil:
    def __reduce__(self): return (os.system, ("touch /tmp/sciviz-canary",))
    __array__ = None
def scale(x): return Evil()
def where(x):
    import numpy as np, pickle
    return np.array([Evil()], dtype=object)
import pickle
number = pickle.dumps(Evil())
""",
    "giant-answer": """
import numpy as np
def scale(x): return np.zeros(30_000_000, dtype=np.uint8)
def where(x): return "a" * 40_000_000
number = 10 ** 3000
""",
    "nested-answer": """
answer = []
for _ in range(100_000): answer = [answer]
def scale(x): return answer
loop = []; loop.append(loop)
def where(x): return loop
number = {"a": {1: 2}}
""",
    "lying-array": """
import numpy as np
class Liar(np.ndarray):
    @property
    def nbytes(self): return 1
    def tobytes(self, *a): return b"x" * 100
def scale(x): return np.zeros(4).view(Liar)
class Claims:
    dtype = np.dtype("f8")
    __array_interface__ = {"shape": (10**6,), "typestr": "<f8", "data": (8, False), "version": 3}
def where(x): return Claims()
number = float("nan")
""",
    "endless-prints": "import sys\nwhile True:\n    print('x' * 10000)\n    sys.__stdout__.write('y' * 10000)",
    "html-in-errors": "raise ValueError('<script>alert(1)</script><img src=x onerror=alert(2)>')",
    "claims-another-id": 'student = "ada"\nseed_key = "practice"\nseed = seed_of("ada", seed_key)\nnumber = -1\n',
    "replaces-seeds": """
import sciviz.coursework, builtins
sciviz.coursework.seed_of = lambda *a: 0
seed_of = lambda *a: 0
seed = 0
number = -5
""",
    "threads-that-answer": """
import threading, sys, gc
def spy():
    while True:
        for thing in gc.get_objects():
            if isinstance(thing, dict) and "kind" in thing and "name" in thing: thing["kind"] = "value"
threading.Thread(target=spy, daemon=True).start()
def scale(x): return 1.0
""",
    "numbers-in-time": """
import time
def scale(x):
    time.sleep(0.3)
    raise KeyError(x[0])
""",
}  # fmt: skip


def _code(source: str) -> Callable[[Toy, str], None]:
    def hand_in(toy: Toy, student: str) -> None:
        book = toy.untouched()
        for cell in book.cells:
            if cell.metadata.get("sciviz", {}).get("question") == "scale" and cell.metadata.sciviz.role == "answer":
                cell.source = source
        toy.hand_in(student, book)

    return hand_in


def _forged_outputs(toy: Toy, student: str) -> None:
    book = toy.untouched()
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                {"output_type": "stream", "name": "stdout", "text": "scale: the visible checks pass. 10 of 10 points"}
            ]
        theirs = cell.metadata.get("nbgrader")
        if theirs:
            theirs.update({"points": 1000, "locked": False, "grade": True, "checksum": "0", "auto_score": 10})
    book.metadata["sciviz"] = {"score": 10, "student": "ada"}
    toy.hand_in(student, book)


def _markdown(toy: Toy, student: str) -> None:
    text = (
        "<script>alert(1)</script><svg onload=alert(2)><style>body{display:none}</style>[x](javascript:alert(3))"
        '<iframe src="http://127.0.0.1/"></iframe>![](http://127.0.0.1/x.png)</pre></details></main><h1>10 of 10</h1>\u202e'
        "<meta http-equiv=refresh content='0;url=http://127.0.0.1/'>{{ 7*7 }}{% raw %}"
    )
    toy.hand_in(
        student, toy.notebook(dict.fromkeys(("scale", "where", "number"), "raise ValueError('''" + text + "''')"), text)
    )


def _rich_outputs(toy: Toy, student: str) -> None:
    book = toy.untouched()
    data = {
        "text/html": "<script>alert(1)</script>",
        "image/svg+xml": "<svg onload='alert(1)'/>",
        "application/javascript": "alert(1)",
    }
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [{"output_type": "display_data", "data": data, "metadata": {}}]
    toy.hand_in(student, book)


def _zip_bomb(toy: Toy, student: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    book = toy.untouched()
    coded = base64.b64encode(stream.getvalue()).decode()
    book.cells[0]["attachments"] = {"bomb.zip": {"application/zip": coded}}
    toy.hand_in(student, book).with_name("bomb.zip").write_bytes(stream.getvalue())


def _raw(text: str) -> Callable[[Toy, str], None]:
    def hand_in(toy: Toy, student: str) -> None:
        toy.hand_in(student, text)

    return hand_in


def _huge(toy: Toy, student: str) -> None:
    path = toy.hand_in(student, toy.untouched())
    # 200 MB, of which the file system stores almost nothing.
    with path.open("r+b") as file:
        file.truncate(200 * 2**20)


def _link(target: str) -> Callable[[Toy, str], None]:
    def hand_in(toy: Toy, student: str) -> None:
        toy.path(student).symlink_to(target)

    return hand_in


def _linked_folder(toy: Toy, student: str) -> None:
    other = toy.submitted.parent / "elsewhere"
    other.mkdir(exist_ok=True)
    (other / "toy.ipynb").write_text(json.dumps(toy.notebook()))
    (toy.submitted / student).symlink_to(other, target_is_directory=True)


def _linked_answer(toy: Toy, student: str) -> None:
    # Somebody else's right answers.
    toy.path(student).symlink_to(toy.submitted / "ada" / "toy.ipynb")


def _pipe(toy: Toy, student: str) -> None:
    os.mkfifo(toy.path(student))


def _folder(toy: Toy, student: str) -> None:
    toy.path(student).mkdir()


FILES: dict[str, Callable[[Toy, str], None]] = {
    **{name: _code(source) for name, source in CODE.items()},
    "forged-outputs": _forged_outputs,
    "html-in-markdown": _markdown,
    "html-in-outputs": _rich_outputs,
    "zip-bomb": _zip_bomb,
    "broken-json": _raw('{"cells": [{"cell_type": "code", "source": "x'),
    "no-notebook": _raw("[1, 2, 3]"),
    "deep-json": _raw("[" * 200_000),
    "wide-json": _raw('{"cells": [' + "[]," * 12_000_000 + "[]]}"),
    "odd-cells": _raw('{"cells": [1, null, {"cell_type": [], "source": {"a": 1}}, {"source": ["x", 5]}], "metadata": []}'),
    "lone-surrogates": _raw('{"cells": [{"cell_type": "code", "source": "x = \\"\\\\ud800\\"\\n# \\ud800"}], "metadata": {}}'),
    "two-hundred-megabytes": _huge,
    "link-to-a-file": _link("/etc/passwd"),
    "link-to-a-device": _link("/dev/zero"),
    "linked-folder": _linked_folder,
    "linked-answers": _linked_answer,
    "a-pipe": _pipe,
    "a-folder": _folder,
}  # fmt: skip

# Folders whose names are not what they seem: not graded at all, and told to the teacher.
STRANGE_NAMES = ("ad\u202ea", "ada\u200b", " ada", "=cmd|'calc'!A1", "@sum", "a\nb", "\uff41\uff44\uff41")


def hand_in_all(toy: Toy, port: int) -> list[str]:
    """Hand in the whole catalogue and return the students' names."""
    for name, make in FILES.items():
        if name == "calls-home":
            make = _code(CODE[name].replace("PORT", str(port)))
        make(toy, name)
    for name in STRANGE_NAMES:
        folder = toy.submitted / name
        folder.mkdir()
        (folder / "toy.ipynb").write_text(json.dumps(toy.notebook()))
    return list(FILES)


def pages(folder: Path) -> dict[str, str]:
    return {path.parent.parent.name: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}


def as_text(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)
