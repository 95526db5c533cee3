# For scripts that need a program of Debian's: `. tests/install.sh`.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install_if_missing PACKAGE COMMAND…: installs a package unless the command succeeds.
install_if_missing() {
    local package=$1
    shift
    if "$@" >/dev/null 2>&1; then return; fi
    if ! command -v apt-get >/dev/null; then
        echo "$package is missing, and there is no apt-get to install it with" >&2
        exit 1
    fi
    echo "installing $package" >&2
    if [ -z "${apt_is_fresh:-}" ]; then
        as_root apt-get update -qq >&2
        apt_is_fresh=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >&2
}

# install_collector FOLDER: a collector of OpenTelemetry, Rotel, as a Python package ships it. Only its
# program is of use, so the package is for whichever Python it was made, and is taken apart.
install_collector() {
    local folder=$1
    if [ -x "$folder/rotel/rotel-agent" ]; then return; fi
    rm -rf "$folder"
    mkdir -p "$folder"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 \
        --platform "manylinux_2_34_$(uname -m)" --dest "$folder" "rotel==$ROTEL"
    python3 -m zipfile --extract "$folder"/rotel-*.whl "$folder"
    rm -rf "$folder"/rotel-*.whl "$folder/venv"
    chmod +x "$folder/rotel/rotel-agent"
}

readonly ROTEL=0.0.1a15
