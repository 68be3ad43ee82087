#!/bin/bash
# A system of its own for the commands of README and handbook: root.sh ROOT PROGRAMS TOOLS
# Run in namespaces of its own for mounts, processes, network and host name. ROOT holds etc/, script.sh and what the test
# put there; PROGRAMS has the built programs, TOOLS the repository's tools.
set -euo pipefail
root=$1 programs=$2 tools=$3

mount --make-rprivate /
hostname kiosk-17
ip link set lo up
cd "$root"
mkdir -p usr proc dev tmp var/lib var/backups run/systemd/system root srv local work/target/dist work/tools etc/systemd/system
chmod 1777 tmp
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then
        cp -d "/$name" "$name"
    elif [ -d "/$name" ]; then
        mkdir -p "$name" && mount --rbind "/$name" "$name"
    fi
done
mount --rbind /usr usr
mount --bind local usr/local
mount --bind "$programs" work/target/dist
mount --bind "$tools" work/tools
mount -t proc proc proc
mount --rbind /dev dev
mkdir -p usr/local/bin
cp etc/shims/* usr/local/bin/
chmod 755 usr/local/bin/*
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The blocks are for sh(1): what only bash understands is wrong there.
exec env -i PATH="$PATH" HOME=/root LC_ALL=C.UTF-8 chroot "$root" /bin/bash -c 'cd /work && exec sh /script.sh'
