#!/usr/bin/env bash
# Makes an image out of a fresh Debian 12. Run as root on the machine that is to become the image, with /tmp/stoker
# holding programs/, lib/, etc/ and systemd/ of this repository. GPU=1 installs the driver and the libraries of CUDA
# version CUDA, such as 13-0.
set -euo pipefail

readonly FROM=${FROM:-/tmp/stoker} GPU=${GPU:-1} CUDA=${CUDA:-13-0}
readonly NVIDIA=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
readonly RDS_CA=https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem
export DEBIAN_FRONTEND=noninteractive

# What the programs need of the system, checked before anything is changed: an image whose worker does not start
# would be found out by every machine that boots from it.
check_programs() {
    local program missing
    for program in stoker-coordinator stoker-worker stoker-engine stoker-autoscaler; do
        [[ -x $FROM/programs/$program ]] || { echo "provision: no program $program: run make build-ec2" >&2; exit 1; }
    done
    "$FROM/programs/stoker-autoscaler" --version | grep -q ec2 ||
        { echo "provision: this stoker-autoscaler cannot buy from EC2: run make build-ec2" >&2; exit 1; }
    # Everything but the engines for GPUs carries its libraries in itself, down to the system's C library.
    for program in "$FROM"/programs/stoker*; do
        [[ $program != *-cuda* ]] || continue
        missing=$(ldd "$program" | grep -Ev 'linux-vdso|ld-linux|libc\.so|libm\.so|libgcc_s\.so|libdl\.so|libpthread\.so|librt\.so' || true)
        [[ -z $missing ]] || { echo "provision: $program needs more than a C library: $missing" >&2; exit 1; }
    done
}

install_packages() {
    apt-get -q update
    apt-get -q -y upgrade
    # Services of these packages are started by Stoker's own units, or not at all.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    apt-get -q -y install --no-install-recommends \
        awscli ca-certificates chrony curl jq mdadm prometheus python3 rabbitmq-server stunnel4 unattended-upgrades
    rm /usr/sbin/policy-rc.d
    systemctl disable prometheus.service rabbitmq-server.service stunnel4.service
    systemctl enable chrony.service
}

install_gpu() {
    local flavor kernel
    [[ $GPU == 1 ]] || return 0
    curl -fsSo /tmp/keyring.deb "$NVIDIA/cuda-keyring_1.1-1_all.deb"
    dpkg -i /tmp/keyring.deb
    apt-get -q update
    # Debian's images for clouds have a kernel of their own.
    if [[ $(uname -r) == *-cloud-* ]]; then flavor=cloud-amd64; else flavor=amd64; fi
    apt-get -q -y install --no-install-recommends "linux-headers-$flavor" build-essential dkms
    # The open kernel modules, which is what NVIDIA builds for the GPUs of g5 and later; version 580 or newer.
    apt-get -q -y install --no-install-recommends nvidia-open "cuda-cudart-$CUDA" "libcublas-$CUDA" "libcurand-$CUDA"
    # The upgrade above may have brought a kernel that is not the one that runs now: the next boot takes it.
    for kernel in /lib/modules/*; do
        dkms autoinstall -k "${kernel##*/}"
        find "$kernel" -name 'nvidia.ko*' | grep -q . || { echo "provision: ${kernel##*/} has no driver" >&2; exit 1; }
    done
    # Without it the driver is loaded anew for each process that asks for the GPU: seconds of every cold start.
    systemctl enable nvidia-persistenced.service
    echo "/usr/local/cuda-${CUDA/-/.}/lib64" >/etc/ld.so.conf.d/stoker-cuda.conf
    ldconfig
    # A kernel that comes by itself would have no driver.
    apt-mark hold "linux-image-$flavor" "linux-headers-$flavor"
}

add_users() {
    local user
    for user in stoker stoker-tunnel stoker-agent; do
        getent passwd "$user" >/dev/null ||
            useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    done
    # Who may ask a GPU: on Debian its devices are everybody's, on others the group's.
    usermod -aG video,render stoker
}

install_files() {
    install -d /usr/lib/stoker /etc/stoker /usr/share/stoker
    install -m 0755 "$FROM"/programs/stoker* /usr/local/bin/
    install -m 0755 "$FROM"/lib/* /usr/lib/stoker/
    chmod 0644 /usr/lib/stoker/common
    install -m 0644 "$FROM"/etc/stoker/*.env /etc/stoker/
    install -m 0644 "$FROM"/etc/sysctl.d/*.conf /etc/sysctl.d/
    install -m 0644 "$FROM"/etc/tmpfiles.d/*.conf /etc/tmpfiles.d/
    install -m 0644 "$FROM"/systemd/* /etc/systemd/system/
    curl -fsSo /usr/share/stoker/rds-ca.pem "$RDS_CA"
    grep -q 'BEGIN CERTIFICATE' /usr/share/stoker/rds-ca.pem
    systemctl daemon-reload
    systemctl enable stoker-boot.service
}

# Nobody logs in but through Session Manager, whose agent the build has installed.
close_doors() {
    systemctl enable amazon-ssm-agent.service
    systemctl disable ssh.service ssh.socket 2>/dev/null || true
    systemctl mask ssh.service
    passwd -l root
}

# What belongs to the machine that was built on, not to those that boot from the image.
clean() {
    apt-get -q -y clean
    rm -rf /tmp/stoker /tmp/*.deb /var/lib/apt/lists/* /var/log/journal/* /var/lib/rabbitmq/.erlang.cookie
    rm -f /etc/ssh/ssh_host_*
    getent passwd | cut -d: -f6 | while read -r folder; do rm -f "$folder/.ssh/authorized_keys"; done
    cloud-init clean --logs --seed
    truncate -s 0 /etc/machine-id
}

check_programs
install_packages
install_gpu
add_users
install_files
close_doors
clean
