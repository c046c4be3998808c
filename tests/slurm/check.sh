#!/usr/bin/env bash
# Run a command where `sbatch` works: a SLURM of one node on this machine, for as long as it takes.
#
#   tests/slurm/check.sh                      # only show that SLURM works
#   tests/slurm/check.sh .venv/bin/python run.py -m hydra/launcher=submitit_slurm ...
#
# Needs root on Debian or Ubuntu; installs slurm-wlm and munge by apt-get if they are missing.
# Everything else (keys, sockets, ports, logs) lives in a temporary directory, so that another
# SLURM on this machine is not touched. Works in containers: neither systemd nor cgroups needed.
# The exit status is the command's.
set -euo pipefail

if [[ $EUID -ne 0 ]]; then
  echo "tests/slurm/check.sh must run as root, but got user $(id -un); use sudo" >&2
  exit 2
fi

# A package's own service must not start: it would have no configuration.
install_slurm() {
  command -v slurmctld slurmd munged sbatch >/dev/null && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends slurm-wlm munge
}
install_slurm >/dev/null

home=$(mktemp -d /tmp/slurm.XXXXXX)
chmod 755 "$home" # munge refuses a socket that other users cannot reach
mkdir "$home"/{munge,state,spool}
started=()

stop() {
  local status=$?
  trap - EXIT
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  for process in "${started[@]}"; do wait "$process" 2>/dev/null || true; done
  if [[ $status -ne 0 ]]; then
    tail -n 20 "$home"/*.log >&2 || true
  fi
  rm -rf "$home"
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Start a server in the foreground of a background job, so that its id is known and it is ours.
serve() {
  local name=$1
  shift
  "$@" >"$home/$name.log" 2>&1 &
  started=("$!" "${started[@]}")
}

wait_for() {
  for _ in $(seq 6000); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "SLURM did not start within 10 minutes: $* still fails" >&2
  return 1
}

free_port() { # bound and released: somebody else could take it, but not for long
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

head -c 1024 /dev/urandom >"$home/munge/key"
chmod 400 "$home/munge/key"
serve munged munged --foreground --force --key-file="$home/munge/key" \
  --socket="$home/munge/socket" --pid-file="$home/munge/pid" --log-file="$home/munge/log" \
  --seed-file="$home/munge/seed"
wait_for munge --socket="$home/munge/socket" --no-input

node=$(hostname -s)
cat >"$home/slurm.conf" <<EOF
ClusterName=check
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
CredType=cred/munge
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=1
KillWait=5
MinJobAge=86400
NodeName=$node NodeAddr=127.0.0.1 CPUs=${SLURM_CHECK_CPUS:-$(nproc)} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF="$home/slurm.conf"

# submitit asks `sacct` whether a job without a result still runs, and would wait for ever without
# the answer. The real one needs a database of its own; here the controller's memory answers.
mkdir "$home/bin"
cat >"$home/bin/sacct" <<'EOF'
#!/usr/bin/env bash
jobs=()
while [[ $# -gt 0 ]]; do
  [[ $1 != -j ]] || jobs+=("$2")
  shift
done
echo "JobID|State|NodeList"
squeue --noheader --array --states=all --jobs="$(IFS=,; echo "${jobs[*]}")" --format='%i|%T|%N'
EOF
chmod 755 "$home/bin/sacct"
export PATH="$home/bin:$PATH"
serve slurmctld slurmctld -D
serve slurmd slurmd -D -N "$node"
wait_for bash -c '[[ $(sinfo --noheader --format=%T) == idle ]]'

(cd "$home" && sbatch --quiet --wait --output="$home/hostname" --wrap hostname)
[[ $(cat "$home/hostname") == "$(srun hostname)" ]]
echo "$(sinfo --version) runs jobs on $(cat "$home/hostname")"
"$@"
