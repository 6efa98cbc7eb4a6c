#!/usr/bin/env bash
# Installs over ssh what cloud files install on each node: `cluster/image.sh ubuntu@ADDRESS`, from the root of the repository.
# An image that is made of that machine lets workers start without, so that no torch is installed on paid GPU time. The machine
# needs the image of GPU workers, with NVIDIA's driver, but no GPU (README.md beside this file).
set -euo pipefail
ssh "$1" mkdir -p install
rsync --archive --exclude __pycache__ Makefile constraints.txt pyproject.toml setup.py ossnet search_spaces "$1:install/"
ssh "$1" 'sudo apt-get -o DPkg::Lock::Timeout=300 -qq update &&
  sudo apt-get -o DPkg::Lock::Timeout=300 -qq install -y make python3-venv nfs-common &&
  make -C ~/install setup VENV="$HOME/venv" && rm -rf ~/.cache/pip'
