#!/usr/bin/env bash
# A 64-bit ARM Debian userland on this machine, emulated: qemu-user under proot, so that it needs no
# kernel support, no mounts and no privileges of its own.
#
#   deploy/arm64.sh make DIR            Debian 12 with Python 3.11, and the wheels that a device installs
#   deploy/arm64.sh run DIR CMD ARG...  run a command inside; what it starts is emulated too
#
# It shows whether wheels, imports, processes and messages work on that architecture. It says nothing
# about time: an emulated processor is 10 to 20 times slower than this one. `make arm` uses it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
verb=${1:?expected make or run}
dir=$(realpath -m "${2:?expected a folder}")
shift 2
export PATH=$PATH:/usr/sbin
site=$dir/opt/site

install_tools() {
    local missing=() pair
    for pair in qemu-aarch64-static:qemu-user-static proot:proot debootstrap:debootstrap; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    ((${#missing[@]})) || return 0
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

make_rootfs() {
    local mirror deb
    mirror=$(cat /etc/apt/sources.list.d/*.sources /dev/null | awk '/^URIs:/ {print $2; exit}')
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,ca-certificates \
        bookworm "$dir" "${mirror:-http://deb.debian.org/debian}" >"$dir.log" 2>&1
    # Unpacked and not configured: enough to run programs, and it needs no emulation.
    for deb in "$dir"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$dir"; done
    if [ -L "$dir/proc" ]; then rm "$dir/proc"; fi
    rm -f "$dir"/var/cache/apt/archives/*.deb
    mkdir -p "$dir/proc" "$dir/sys" "$dir/opt" "$dir/tmp"
}

install_wheels() {
    local python=${PYTHON:-python3} platforms=(--platform manylinux2014_aarch64) n
    for n in 17 24 26 27 28 31 34; do platforms+=(--platform "manylinux_2_${n}_aarch64"); done
    rm -rf "$site"
    # All that is pinned, and nothing besides: pip would read the wheels' conditions for this machine.
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$site" \
        --implementation cp --python-version 3.11 --only-binary=:all: --no-deps "${platforms[@]}" \
        -r "$here/constraints-aarch64.txt"
    "$python" "$here/trim.py" "$site" "$site/bin"
    rm -rf "$site/bin"
    # Compiled here: emulated it takes minutes. Another Python than 3.11 compiles it for nothing.
    "$python" -m compileall -q -s "$dir" "$site" "$dir/usr/lib/python3.11" >/dev/null || true
    cp "$here/constraints-aarch64.txt" "$site/"
    du -sm "$site" | awk '{print "installed for aarch64, without the app: " $1 " MB"}'
}

case $verb in
make)
    install_tools
    [ -x "$dir/usr/bin/python3.11" ] || make_rootfs
    cmp -s "$here/constraints-aarch64.txt" "$site/constraints-aarch64.txt" || install_wheels
    # Console scripts: pip writes none for another machine, and Flower starts its helpers by name.
    mkdir -p "$dir/usr/local/bin"
    while read -r name target; do
        printf '#!/usr/bin/python3.11\nimport sys\nfrom %s import %s\nsys.exit(%s())\n' \
            "${target%:*}" "${target#*:}" "${target#*:}" >"$dir/usr/local/bin/$name"
        chmod 755 "$dir/usr/local/bin/$name"
    done <<'SCRIPTS'
caafp caafp_app.cli:main
flower-supernode flwr.supernode.cli:flower_supernode
flower-superexec flwr.supercore.cli:flower_superexec
flwr-clientapp flwr.supernode.cli:flwr_clientapp
SCRIPTS
    "$0" run "$dir" /usr/bin/python3.11 -c \
        'import platform; print(platform.machine(), platform.python_version())'
    ;;
run)
    # access(2) is answered for this machine's file of that name, so what is handed in lies in a
    # folder that has the same name on both sides.
    exec env PROOT_NO_SECCOMP=1 proot -q "$(command -v qemu-aarch64-static)" -0 -r "$dir" \
        -b /dev -b /proc -b /sys -b /etc/resolv.conf -b /etc/hosts -b "${TMPDIR:-/tmp}" -w / \
        /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 \
        OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONUNBUFFERED=1 PYTHONPATH=/opt/app:/opt/site \
        FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 "$@"
    ;;
*)
    echo "expected make or run, found $verb" >&2
    exit 2
    ;;
esac
