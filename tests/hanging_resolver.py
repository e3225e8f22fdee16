"""A resolver that never answers, put in the place of the C library's in processes that tests start."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HOST = "hangs.invalid"
_MARK = "HANGING_RESOLVER_MARK"

_SOURCE = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (host && strcmp(host, "{HOST}") == 0) {{
        close(open(getenv("{_MARK}"), O_CREAT | O_WRONLY, 0600));
        for (;;)
            pause();
    }}
    real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(host, service, hints, found);
}}
"""


class HangingResolver:
    """A resolver that never finds an address for `HOST`.

    Attributes:
        variables: of the processes that are to have it.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler (cc): it makes the resolver that hangs")
        library = str(folder / "resolver.so")
        command = [compiler, "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"]
        subprocess.run(command, input=_SOURCE, text=True, check=True, timeout=60)
        self._mark = folder / "asked"
        self.variables = {"LD_PRELOAD": library, _MARK: str(self._mark)}

    def was_asked(self) -> bool:
        """Return whether a process waits for it."""
        return self._mark.exists()
