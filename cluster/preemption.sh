#!/usr/bin/env bash
# On a worker that the cloud may take away: `preemption.sh aws|gcp|azure` waits for its notice and has Ray know of it, so that what
# trains saves a checkpoint first. The notice comes two minutes before on AWS, half a minute before elsewhere.
set -uo pipefail
cloud=$1
exec 9>~/.preemption.lock
flock --nonblock 9 || exit 0 # one is enough
metadata=http://169.254.169.254

is_to_go() {
  case $cloud in
    aws)
      token=$(curl -sf -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/latest/api/token") &&
        curl -sf -H "X-aws-ec2-metadata-token: $token" "$metadata/latest/meta-data/spot/instance-action"
      ;;
    gcp) curl -sf -H "Metadata-Flavor: Google" "$metadata/computeMetadata/v1/instance/preempted" | grep TRUE ;;
    azure) curl -sf -H "Metadata: true" "$metadata/metadata/scheduledevents?api-version=2020-07-01" | grep Preempt ;;
  esac
}

until is_to_go >/dev/null; do sleep 5; done
left=30
[ "$cloud" != aws ] || left=120
RAY_ADDRESS=auto ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "notice of $cloud" --deadline-remaining-seconds "$left"
