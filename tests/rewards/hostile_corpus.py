"""Outputs written to hang, crash, starve or escape the verifiers; none of them is a right answer.

A program under attack defines the function that the tests want only if its attack succeeded, so a verdict ``correct``
on any item means that something got through.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

Item = dict[str, Any]

SQUARE_TESTS = {"asserts": ["assert f(2) == 4", "assert f(-3) == 9"]}
ECHO_CASES = {"cases": [{"stdin": "3\n", "stdout": "9\n"}]}


def hostile_corpus(outside: str) -> list[tuple[str, Item]]:
    """Named items; ``outside`` is an existing directory that no program may change (it holds ``canary``)."""
    items = [(f"math/{name}", _math(text)) for name, text in _math_outputs()]
    items += [(f"prose/{name}", _math(text)) for name, text in _unboxed_outputs()]
    items += [(f"choice/{name}", _item("choice", text, "B")) for name, text in _short_answers()]
    items += [(f"exact/{name}", _item("exact", text, "the answer")) for name, text in _short_answers()]
    items += [(f"code/{name}", _item("code", _fence(code), SQUARE_TESTS)) for name, code in _attacks(outside)]
    items += [(f"program/{name}", _item("code", text, SQUARE_TESTS)) for name, text in _programs()]
    items += [(f"cases/{name}", _item("code", _fence(code), ECHO_CASES)) for name, code in _endless_output()]
    return items


def ordinary_items(count: int) -> list[Item]:
    """Items with right answers, of every kind of verifier but ``code``, which is slow to start."""
    kinds = [
        lambda n: _item("math", rf"So it is $\boxed{{\frac{{{n}}}{{7}}}}$.", rf"\frac{{{n}}}{{7}}"),
        lambda n: _item("math", rf"\boxed{{x = {n}}}", str(n)),
        lambda n: _item("math", rf"Hence \boxed{{({n}, {n + 1})}}", rf"\left({n}, {n + 1}\right)"),
        lambda n: _item("choice", "The answer is (C).", "C"),
        lambda n: _item("exact", rf"\boxed{{word {n}}}", f"word {n}"),
    ]
    return [kinds[n % len(kinds)](n) for n in range(1, count + 1)]


def _item(verifier: str, response: str, answer: Any) -> Item:
    return {"verifier": verifier, "response": response, "answer": answer}


def _math(response: str) -> Item:
    # A gold answer that no shortcut settles: sympy sees whatever can be parsed.
    return _item("math", response, r"\sqrt{17} + \pi x")


def _fence(code: str) -> str:
    return f"Here it is.\n```python\n{code}\n```"


def _math_outputs() -> Iterator[tuple[str, str]]:
    for name, text in _expressions():
        yield name, rf"The answer is $\boxed{{{text}}}$."


def _expressions() -> Iterator[tuple[str, str]]:
    for depth in range(3, 9):
        yield f"tower-{depth}", "9^{" * depth + "9" + "}" * depth
        yield f"tower-of-brackets-{depth}", "(" * depth + "7" + "^{77})" * depth
        yield f"tower-from-below-{depth}", "2^{" * depth + r"\sqrt{3}" + "}" * depth
    yield "tower-negative", "-8^{8^{8^{8}}} + 8^{8^{8^{8}}} + 1"
    yield "tower-fraction", r"\left(\frac{9}{8}\right)^{9^{9^{9}}}"
    yield "tower-exp", r"\exp(\exp(\exp(\exp(9))))"
    yield "tower-e", "e^{e^{e^{e^{e}}}}"
    yield "tower-mod", r"7^{7^{7^{7^{7}}}} \bmod 1000"
    yield "tower-root", r"\sqrt[3]{2}^{9^{9^{9^9}}}"
    yield "tower-imaginary", "i^{i^{9^{9^{9}}}}"
    for number in (10**5, 10**6, 10**8, 10**12):
        yield f"factorial-{number}", f"{number}!"
        yield f"double-factorial-{number}", f"({number}!)!"
        yield f"binomial-{number}", rf"\binom{{{number}}}{{{number // 2}}}"
        yield f"sum-{number}", rf"\sum_{{k=1}}^{{{number}}} \frac{{1}}{{k^2}}"
        yield f"product-{number}", rf"\prod_{{k=1}}^{{{number}}} (k^2 + 1)"
        yield f"log-{number}", rf"\log_{{2}}({number}!) + \sin({number}!)"
    for size in (1_900, 20_000, 1_000_000):
        yield f"digits-{size}", "9" * size
        yield f"decimals-{size}", "0." + "3" * size
        yield f"zeros-{size}", "1" + "0" * size + r" \cdot x"
        yield f"fraction-{size}", r"\frac{" + "7" * size + "}{" + "3" * size + "}"
        yield f"grouped-digits-{size}", "1" + ",000" * (size // 4)
        yield f"power-of-digits-{size}", "7^{" + "7" * size + "}"
    yield "exponent-number", "1e999999999"
    yield "exponent-small", "1e-999999999"
    yield "long-sum", "+".join(f"x_{{{n}}}" for n in range(180))
    yield "long-product", "".join(f"(x+{n})" for n in range(200))
    yield "expansion", "(" + "+".join("abcdefghjk") + ")^{200}"
    yield "expansion-negative", "(a+b+c+d)^{-99} - (a+b+c+d)^{-98}"
    yield "square-roots", "+".join(rf"\sqrt{{{n}}}" for n in range(2, 90))
    yield "nested-square-roots", r"\sqrt{2+" * 60 + "2" + "}" * 60
    yield "nested-sines", r"\sin(" * 70 + "x" + ")" * 70
    yield "nested-logs", r"\ln(" * 60 + "x" + ")" * 60
    yield "radicals", "+".join(rf"\sqrt[{n}]{{{n}}}" for n in range(3, 40)) + r" - \pi"
    yield "polynomial-equation", "x^{97} + 3x^{50} - x^{13} + 7 = 0"
    yield "transcendental-equation", "x^{x^{x}} = y^{y} + e^{xy}"
    yield "inequality", r"\sin(x^{50}) + x^{49} \le e^{x} < x^{3}"
    yield "system", "x^9 + y^7 = 3, y^9 + z^7 = 5, z^9 + x^7 = 1"
    yield "integral", r"\int_0^{\infty} e^{-x^{x}} \sin(x^9) dx"
    yield "limit", r"\lim_{x \to 0} \frac{\sin(x^{x^{x}})}{x^{99}}"
    yield "derivative", r"\frac{d}{dx} x^{x^{x^{x^{x^x}}}}"
    yield "big-set", r"\{" + ",".join(str(n) for n in range(450)) + r"\}"
    yield "big-union", r"\cup".join(f"({n}, {n}.5)" for n in range(120))
    yield "big-tuple", "(" + ",".join(rf"\sqrt{{{n}}}" for n in range(150)) + ")"
    yield "big-matrix", r"\begin{pmatrix}" + r"\\".join("&".join("12345") for _ in range(90)) + r"\end{pmatrix}"
    yield "matrix-power", r"\begin{pmatrix} 1 & x \\ y & 2 \end{pmatrix}^{999999}"
    yield "determinant", r"\det \begin{vmatrix} a & b & c \\ d & e & f \\ g & h & i \end{vmatrix}^{9^{9}}"
    yield "not-a-number", r"\frac{0}{0}"
    yield "complex-infinity", r"\frac{1}{0}"
    yield "infinity-arithmetic", r"\infty - \infty"
    yield "zero-to-zero", "0^{0^{0^{0}}} - 1"
    yield "modulo-zero", r"5 \bmod 0"
    yield "percent-of-percent", "5" + r"\%" * 300
    yield "degrees", "5" + r"^\circ" * 300
    yield "absolute-values", "|" * 301 + "x" + "|" * 301
    yield "signs", "-" * 1500 + "1"
    yield "slashes", "1" + "/2" * 800
    yield "carets", "2" + "^" * 900 + "2"
    yield "factorial-signs", "3" + "!" * 60
    yield "subscripts", "a_{" * 300 + "1" + "}" * 300
    yield "commas", "," * 1900
    yield "equals", "=".join(["x"] * 900)
    yield "and", " and ".join(["1"] * 350)
    for name, opening, closing in (
        ("braces", "{", "}"),
        ("brackets", "(", ")"),
        ("squares", "[", "]"),
        ("left-right", r"\left(", r"\right)"),
        ("fractions", r"\frac{1}{", "}"),
        ("roots", r"\sqrt{", "}"),
        ("texts", r"\text{", "}"),
        ("boxes", r"\boxed{", "}"),
    ):
        for depth in (40, 140, 30_000):
            yield f"nested-{name}-{depth}", opening * depth + "1" + closing * depth
    yield "import", "__import__('os').system('true')"
    yield "exit", r"\text{__import__('os')._exit(0)}"
    yield "class-walk", "().__class__.__base__.__subclasses__()"
    yield "format-string", "{0.__class__.__init__.__globals__}"
    yield "percent-format", "%s%s%s%n%n%999999999d"
    yield "lambda", "(lambda: 9**9**9**9)()"
    yield "named-sympy", "sympify(open('/etc/passwd').read())"
    yield "null-bytes", "1\x00" * 200
    yield "lone-surrogates", "\ud800\udfff" * 200
    yield "byte-order-mark", "\ufeff5"
    yield "right-to-left", "\u202e5\u202c + \u200f3"
    yield "zero-width", "5\u200b\u200c\u200d" * 100
    yield "full-width-digits", "５＋３"
    yield "superscripts", "5²³⁴⁵⁶⁷⁸⁹"
    yield "combining-marks", "5" + "\u0301" * 1500
    yield "private-use", "\ue000" * 500
    yield "control-characters", "".join(chr(code) for code in range(1, 32)) * 20
    yield "every-command", "".join(f"\\{chr(a)}{chr(b)}" for a in range(97, 123) for b in range(97, 110))


def _unboxed_outputs() -> Iterator[tuple[str, str]]:
    yield "empty", ""
    yield "spaces", " " * 1_000_000
    yield "newlines", "\n" * 1_000_000
    yield "letters", "a" * 1_000_000
    yield "plain-tower", "The final answer is 9**9**9**9**9"
    yield "caret-tower", "The answer is 9^9^9^9^9."
    yield "dollar-tower", "The answer is $9^{9^{9^{9^{9}}}}$"
    yield "plain-factorial", "The answer is $99999999!$"
    yield "megabyte-of-digits", "The answer is " + "7" * 1_000_000
    yield "number-list", "1 " * 100_000
    yield "grouped-list", "1,111" * 100_000
    yield "operators", "1+-*/" * 50_000
    yield "parentheses", "(" * 100_000 + "1" + ")" * 100_000
    yield "dollars", "$" * 100_000
    yield "odd-dollars", "$x$ and " * 30_001 + "$"
    yield "display-dollars", "$$" * 50_000 + "1"
    yield "open-parenthesis-math", r"\(" * 50_000
    yield "open-bracket-math", r"\[" * 50_000
    yield "open-fractions", r"\frac{" * 50_000
    yield "fractions", r"\frac{1}{2}" * 20_000
    yield "answer-is", "the final answer is " * 20_000
    yield "answer-colons", "answer:" * 50_000 + "$"
    yield "ors", "$1$ or " * 3_000
    yield "backslashes", "\\" * 100_001
    yield "backslashes-and-dollar", "\\$" * 50_000
    yield "open-boxes", r"\boxed{" * 30_000
    yield "boxes-without-braces", r"\boxed " * 50_000
    yield "closing-braces", "}" * 100_000 + r"\boxed{"
    yield "open-box", r"so \boxed{\frac{1}{"
    yield "open-box-after-text", r"so \boxed{" + "x" * 1_000_000
    yield "many-boxes", r"\boxed{9^{9^{9}}}" * 20_000
    yield "escaped-braces", r"\boxed{" + r"\{" * 50_000 + "}"
    yield "surrogates", "\ud83d" * 100_000 + "$\udc00$"
    yield "nulls", "\x00" * 100_000 + "$\x00$"
    yield "mixed-lines", "\r\n\u2028\u2029\x0b\x0c" * 20_000
    yield "unbalanced-left", r"$\left( 1 + 2$ and $3 \right]$"
    yield "unbalanced-environment", r"$\begin{pmatrix} 1 & 2 \\$"
    yield "unknown-environment", r"$\begin{evil} 1 \end{good}$"
    yield "ampersands", "$" + "&" * 900 + "$"
    yield "text-in-text", "$" + r"\text{" * 100 + "$"
    yield "percent-signs", "%" * 100_000 + "5%"


def _short_answers() -> Iterator[tuple[str, str]]:
    yield "empty", ""
    yield "nested-box", r"\boxed{" * 20_000 + "B"
    yield "spaces-in-box", r"\boxed{" + " " * 500_000 + "}"
    yield "open-parentheses", "The answer is " + "(" * 300_000
    yield "repeated-statement", "The answer is the answer is " * 20_000
    yield "stars", "answer: " + "*" * 300_000
    yield "letters-and-spaces", "A " * 200_000
    yield "many-lines", "option\n" * 100_000
    yield "null", "\x00B\x00" * 1_000
    yield "surrogates", "\ud800answer: \udfff" * 1_000
    yield "text-commands", r"\text{" * 30_000 + "B" + "}" * 30_000
    yield "hashes", "#### " * 50_000


def _succeeds_if(attack: str) -> str:
    """A program whose function is right only if ``attack`` runs to its end."""
    return f"try:\n{textwrap.indent(attack, '    ')}\n    f = lambda x: x * x\nexcept BaseException:\n    pass"


def _attacks(outside: str) -> Iterator[tuple[str, str]]:
    for name, attack in (
        *_processes(),
        *_files(outside),
        *_secrets(),
        *_sockets(),
        *_signals(),
    ):
        yield name, _succeeds_if(attack)
    for name, code in (*_memory(), *_time(), *_forgeries()):
        yield name, code


def _processes() -> Iterator[tuple[str, str]]:
    yield "fork-bomb", "import os\nwhile True: os.fork()"
    yield "fork-once", "import os\nif os.fork() == 0:\n    import time; time.sleep(99)"
    yield "forkpty", "import pty\npty.fork()"
    yield "system", "import os\nassert os.system('true') == 0"
    yield "popen", "import os\nassert os.popen('echo hello').read()"
    yield "subprocess", "import subprocess\nsubprocess.run(['true'], check=True)"
    yield "shell", "import subprocess\nsubprocess.check_output(':(){ :|:& };:', shell=True)"
    yield "posix-spawn", "import os\nos.posix_spawn('/bin/true', ['true'], {})"
    yield (
        "multiprocessing",
        ("import multiprocessing as m\np = m.get_context('fork').Process(target=print)\np.start(); p.join()"),
    )
    yield "pool", "from concurrent.futures import ProcessPoolExecutor as P\nP(4).submit(abs, -1).result()"
    yield "raw-fork", "import ctypes\nassert ctypes.CDLL(None).syscall(57) >= 0"
    yield "raw-clone", "import ctypes\nassert ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) >= 0"
    yield "raw-clone3", "import ctypes\nassert ctypes.CDLL(None).syscall(435, b'\\0' * 88, 88) >= 0"
    yield "vfork", "import ctypes\nassert ctypes.CDLL(None).vfork() >= 0"
    yield "daemon", "import os\nos.setsid()"
    yield "namespace", "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0"
    yield "mount", "import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0"
    yield "chroot", "import os\nos.chroot('.')"


def _files(outside: str) -> Iterator[tuple[str, str]]:
    canary = f"{outside}/canary"
    yield "write-outside", f"open({outside + '/evil'!r}, 'w').write('x')"
    yield "append-outside", f"open({canary!r}, 'a').write('x')"
    yield "write-tmp", "open('/tmp/masa-hostile-evil', 'w').write('x')"
    yield "write-shared-memory", "open('/dev/shm/masa-hostile-evil', 'w').write('x')"
    yield "write-etc", "open('/etc/masa-hostile-evil', 'w').write('x')"
    yield "write-interpreter", "import os\nopen(os.__file__, 'a').write('')"
    yield "write-upwards", "open('../../evil', 'w').write('x')"
    yield "remove", f"import os\nos.remove({canary!r})"
    yield "remove-tree", f"import shutil\nshutil.rmtree({outside!r})"
    yield "rename-away", f"import os\nos.rename({canary!r}, 'mine')"
    yield "rename-over", f"import os\nopen('mine', 'w').close()\nos.rename('mine', {canary!r})"
    yield "symlink", f"import os\nos.symlink({canary!r}, 'link')\nopen('link', 'a').write('x')"
    yield "hard-link", f"import os\nos.link({canary!r}, 'link')"
    yield "truncate", f"import os\nos.truncate({canary!r}, 0)"
    yield "change-mode", f"import os\nos.chmod({canary!r}, 0o777)"
    yield "change-owner", f"import os\nos.chown({canary!r}, 12345, 12345)"
    yield "change-times", f"import os\nos.utime({canary!r}, (1, 1))"
    yield "extended-attribute", f"import os\nos.setxattr({canary!r}, 'user.evil', b'1')"
    yield "make-directory", f"import os\nos.mkdir({outside + '/evil'!r})"
    yield "make-pipe", "import os\nos.mkfifo('pipe')"
    yield "make-device", "import os\nos.mknod('device', 0o60666, os.makedev(8, 0))"
    yield "deep-directories", "import os\nfor _ in range(5000):\n    os.mkdir('d')\n    os.chdir('d')"
    yield "database", f"import sqlite3\nsqlite3.connect({outside + '/evil.db'!r}).execute('create table t (x)')"
    yield "raw-open", f"import ctypes\nassert ctypes.CDLL(None).open({canary.encode()!r}, 1) >= 0"
    yield "huge-file", "with open('big', 'wb') as file:\n    for _ in range(100): file.write(bytes(10**6))"
    yield "sparse-file", "with open('big', 'wb') as file: file.truncate(10**12)"
    yield "many-files", "for n in range(10**6): open(str(n), 'w').write('x')"
    yield "many-big-files", "for n in range(10**4): open(str(n), 'wb').write(bytes(10**7))"
    yield "many-open-files", "files = [open('f', 'w') for _ in range(1000)]"


def _secrets() -> Iterator[tuple[str, str]]:
    yield "environment", "import os\nassert os.environ['MASA_TEST_SECRET']"
    yield "environment-by-c", "import ctypes\nassert ctypes.CDLL(None).getenv(b'MASA_TEST_SECRET')"
    yield "own-environ-file", "assert b'MASA_TEST_SECRET' in open('/proc/self/environ', 'rb').read()"
    yield "parent-environ", "import os\nassert open(f'/proc/{os.getppid()}/environ', 'rb').read()"
    yield "parent-command", "import os\nassert open(f'/proc/{os.getppid()}/cmdline', 'rb').read()"
    yield "parent-memory", "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read(1)"
    yield "parent-files", "import os\nassert os.listdir(f'/proc/{os.getppid()}/fd')"
    yield (
        "inherited-files",
        "import os\nfor n in range(5, 500):\n    try: os.fstat(n); break\n    except OSError: pass\nelse: 1/0",
    )
    yield "every-process", "import os\nassert os.listdir('/proc')"
    yield "accounts", "assert open('/etc/passwd').read()"
    yield "home", "import os\nassert os.listdir('/root') or os.listdir('/home')"
    yield "temporary-files", "import os\nassert os.listdir('/tmp')"
    yield "root-directory", "import os\nassert os.listdir('/')"
    yield "library-source", "import masa.rewards.pool"
    yield "read-vm", "import ctypes, os\nassert ctypes.CDLL(None).syscall(310, os.getppid(), 0, 0, 0, 0, 0) >= 0"


def _sockets() -> Iterator[tuple[str, str]]:
    yield "tcp", "import socket\nsocket.socket()"
    yield "udp", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    yield "tcp6", "import socket\nsocket.socket(socket.AF_INET6)"
    yield "unix-socket", "import socket\nsocket.socket(socket.AF_UNIX)"
    yield "raw-socket", "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    yield "netlink", "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"
    yield "vsock", "import socket\nsocket.socket(socket.AF_VSOCK)"
    yield "connection", "import socket\nsocket.create_connection(('127.0.0.1', 80), 1)"
    yield "name-look-up", "import socket\nassert socket.getaddrinfo('example.org', 80)"
    yield "url", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1', timeout=1)"
    yield "server", "import http.server\nhttp.server.HTTPServer(('', 0), None)"
    yield (
        "async-server",
        (
            "import asyncio\nasync def serve(): return await asyncio.start_server(print, '127.0.0.1', 0)\n"
            "assert asyncio.run(serve()).sockets"
        ),
    )
    yield "bound-pair", "import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)[0].bind('\\0evil')"
    yield (
        "pair-to-address",
        ("import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', '/run/systemd/journal/socket')"),
    )
    yield "raw-system-call", "import ctypes\nassert ctypes.CDLL(None).syscall(41, 2, 1, 0) >= 0"
    yield "io-uring", "import ctypes\nassert ctypes.CDLL(None).syscall(425, 8, b'\\0' * 120) >= 0"


def _signals() -> Iterator[tuple[str, str]]:
    yield "kill-parent", "import os\nos.kill(os.getppid(), 9)"
    yield "stop-parent", "import os\nos.kill(os.getppid(), 19)"
    yield "probe-parent", "import os\nos.kill(os.getppid(), 0)"
    yield "kill-everyone", "import os\nos.kill(-1, 9)"
    yield "kill-init", "import os\nos.kill(1, 15)"
    yield "kill-group", "import os\nos.killpg(os.getpgid(os.getppid()), 9)"
    yield "kill-by-descriptor", "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)"
    yield "queue-signal", "import ctypes, os\nassert ctypes.CDLL(None).sigqueue(os.getppid(), 9, 0) == 0"
    yield "thread-signal", "import ctypes, os\nassert ctypes.CDLL(None).syscall(200, os.getppid(), 9) == 0"
    yield "group-signal", "import ctypes, os\np = os.getppid()\nassert ctypes.CDLL(None).syscall(234, p, p, 9) == 0"
    yield "owner-signal", "import fcntl, os\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())"
    yield "owner-by-ioctl", "import fcntl, os, struct\nfcntl.ioctl(0, 0x8901, struct.pack('i', os.getppid()))"
    yield "parent-limits", "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))"
    yield "parent-priority", "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)"
    yield "parent-processor", "import os\nos.sched_setaffinity(os.getppid(), {0})"
    yield "parent-scheduler", "import os\nos.sched_setscheduler(os.getppid(), os.SCHED_BATCH, os.sched_param(0))"
    yield "trace-parent", "import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0"
    yield "raise-own-limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"
    yield "join-group", "import os\nos.setpgid(0, os.getpgid(os.getppid()))"
    yield "shared-memory-segment", "import ctypes\nassert ctypes.CDLL(None).shmget(0, 10**6, 0o1666) >= 0"
    yield "message-queue", "import ctypes\nassert ctypes.CDLL(None).msgget(0, 0o1666) >= 0"
    yield "memory-file", "import os\nos.memfd_create('evil')"
    yield "more-privileges", "import os\nos.setuid(0)\nos.setgroups([0])\nopen('/etc/shadow')"


def _memory() -> Iterator[tuple[str, str]]:
    yield "list-of-buffers", "x = []\nwhile True: x.append(bytearray(10**7))"
    yield "one-huge-buffer", "x = bytearray(10**11)"
    yield "string-doubling", "s = 'x'\nwhile True: s += s"
    yield "list-product", "x = [0] * 10**10"
    yield "dictionary", "d = {}\nwhile True: d[len(d)] = [len(d)]"
    yield "anonymous-map", "import mmap\nm = [mmap.mmap(-1, 10**8) for _ in range(100)]"
    yield (
        "threads",
        "import threading, time\nfor _ in range(10**5): threading.Thread(target=time.sleep, args=(99,)).start()",
    )
    yield "recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef g(): return g()\ng()"
    yield "c-stack", "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)"
    yield "pipes-full", "import os\nwhile True:\n    r, w = os.pipe()\n    os.write(w, bytes(60000))"
    yield "number-memory", "x = 1 << (10**11)"
    yield "regular-expression-memory", "import re\nre.compile('(a{1,9999}){1,9999}').match('a' * 10**5)"


def _time() -> Iterator[tuple[str, str]]:
    yield "endless-loop", "while True: pass"
    yield "sleep", "import time\ntime.sleep(10**6)"
    yield (
        "sleep-ignoring-signals",
        (
            "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
            "    except OSError: pass\ntime.sleep(10**6)"
        ),
    )
    yield "pause", "import signal\nsignal.pause()"
    yield "read-nothing", "import os\nos.read(os.pipe()[0], 1)"
    yield "lock", "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()"
    yield "backtracking", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')"
    yield "big-power", "x = 7 ** (7 ** 12)"
    yield "sleep-at-exit", "import atexit, time\natexit.register(time.sleep, 10**6)\nimport sys\nsys.exit(0)"
    yield "sleep-in-test", "def f(x):\n    import time\n    time.sleep(10**6)"
    yield (
        "sleep-in-thread",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(10**6,)).start()\nf = None",
    )
    yield "generator", "import itertools\nsum(itertools.count())"


def _forgeries() -> Iterator[tuple[str, str]]:
    yield "exit-0", "import sys\nsys.exit(0)"
    yield "hard-exit-0", "import os\nos._exit(0)"
    yield "raise-exit", "raise SystemExit"
    yield "exit-in-test", "def f(x): raise SystemExit(0)"
    yield "write-report", "import os\nos.write(3, b'ok')\nos._exit(0)"
    yield "close-report", "import os\nos.close(3)\nf = None"
    yield "replace-process", "import os\nos.execv('/bin/true', ['true'])"
    yield "optimise-asserts", "import builtins\nbuiltins.AssertionError = Exception\nf = lambda x: 0"
    yield "abort", "import os\nos.abort()"
    yield "segmentation-fault", "import ctypes\nctypes.string_at(0)"
    yield "illegal-system-call", "import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)"
    yield "no-function", "g = lambda x: x * x"
    yield "wrong-function", "f = lambda x: x + x"


def _programs() -> Iterator[tuple[str, str]]:
    yield "syntax-error", _fence("def f(x: return x")
    yield "null-byte", _fence("def f(x): return x\x00*x")
    yield "surrogate", _fence("def f(x): return '\ud800' and 0")
    yield "megabyte", _fence("x = 0\n" * 170_000)
    yield "deep-brackets", _fence("x = " + "(" * 5_000 + ")" * 5_000)
    yield "deep-indentation", _fence("\n".join(" " * n + "if 1:" for n in range(300)))
    yield "long-sum", _fence("x = " + "+".join(["1"] * 50_000))
    yield "minus-signs", _fence("x = " + "-" * 100_000 + "1")
    yield "open-fence", "```python\nwhile True: pass"
    yield "many-fences", "```" * 50_000
    yield "fence-bomb", "```python\n" * 50_000
    yield "prose", "I cannot write that program."
    yield "binary", "".join(chr(code) for code in range(256)) * 100


def _endless_output() -> Iterator[tuple[str, str]]:
    yield "print", "while True: print('x' * 1000)"
    yield "print-errors", "import sys\nwhile True: print('x' * 1000, file=sys.stderr)"
    yield "one-line", "print('x' * 10**8)"
    yield "raw-write", "import os\nwhile True: os.write(1, bytes(65536))"
    yield "report-channel", "import os\nwhile True: os.write(3, bytes(65536))"
    yield "trickle", "import time\nwhile True:\n    print('9', flush=True)\n    time.sleep(0.01)"
    yield "wait-for-input", "input(); input()"
    yield "read-forever", "open('/dev/zero').read()"
    yield "answer-then-sleep", "print(9, flush=True)\nimport time\ntime.sleep(10**6)"
    yield "answer-then-fail", "print(9)\nraise SystemExit(1)"
    yield "answer-then-more", "print(9)\nprint(9)"
