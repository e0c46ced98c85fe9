# SPDX-License-Identifier: Apache-2.0
# Sourced by tools/demo and tools/test. Makes .venv in the checkout the first time, and leaves in PYTHON the interpreter
# to use. A stamp of what the install depends on decides whether pip runs, so a second run needs no network.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"
MINIMUM="3.11"

say() { printf '%s\n' "$*" >&2; }

find_python() {  # the first interpreter on the path that is new enough; QCOS_PYTHON overrides
    local candidate
    for candidate in ${QCOS_PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    say "Python $MINIMUM or newer is needed, and none is on the path. On Debian or Ubuntu:"
    say "    sudo apt-get install python3 python3-venv           (where that is $MINIMUM or newer, else)"
    say "    sudo apt-get install python3.11 python3.11-venv"
    return 1
}

check_venv_module() {  # Debian splits ensurepip from the interpreter
    local python=$1 version
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        say "$python cannot make virtual environments: the package $version-venv is missing. On Debian or Ubuntu:"
        say "    sudo apt-get install $version-venv"
        return 1
    fi
}

stamp() {  # everything the content of .venv depends on
    { printf '%s\n' "$ROOT"; "$1" -c 'import sys; print(sys.version)'; cat "$ROOT/setup.cfg"; } | sha256sum | cut -d' ' -f1
}

ensure_environment() {
    local python wanted
    python=$(find_python)
    wanted=$(stamp "$python")
    if [[ -x "$PYTHON" && "$(cat "$VENV/stamp" 2>/dev/null)" == "$wanted" ]]; then
        return 0
    fi
    check_venv_module "$python"
    say "installing into .venv (once; needs the network) ..."
    rm -f "$VENV/stamp"
    [[ -x "$PYTHON" && "$("$PYTHON" -c 'import sys; print(sys.version)')" == "$("$python" -c 'import sys; print(sys.version)')" ]] \
        || "$python" -m venv --clear "$VENV"
    # setuptools first, so that building needs no isolated environment: a changed setup.cfg whose requirements are
    # already there then installs without network too.
    "$PYTHON" -m pip install --quiet --disable-pip-version-check 'setuptools>=68' wheel
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-build-isolation -e "$ROOT[plugins,test]"
    printf '%s\n' "$wanted" > "$VENV/stamp"
}

exec 9> "$ROOT/.venv.lock"  # two commands at once install once
flock 9
ensure_environment
flock -u 9
exec 9>&-
