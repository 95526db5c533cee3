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
