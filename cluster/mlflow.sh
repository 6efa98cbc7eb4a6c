#!/usr/bin/env bash
# MLflow on the head of a rented cluster; the cloud files run `mlflow.sh s3://BUCKET/mlflow` as it starts.
# Its page listens on loopback alone: `ray attach cluster/aws.yaml -p 5000`, then http://127.0.0.1:5000. Jobs write to the file
# ~/ossnet/mlflow.db, which is backed up to the bucket every minute and restored from there where a new head's disk has none. Where
# that cannot be done, nothing starts: a new file would begin without the runs.
set -euo pipefail
url=$1
mkdir -p ~/ossnet
cd ~/ossnet
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
python -P -m ossnet.distributed.tracking.backup restore mlflow.db "$url"
# Where they run already, a second one of each ends at once, with a line in its log.
setsid nohup python -P -m ossnet.distributed.tracking.backup keep mlflow.db "$url" >>~/mlflow-backup.log 2>&1 </dev/null &
setsid nohup mlflow server --host 127.0.0.1 --port "${MLFLOW_PORT:-5000}" --workers 1 \
  --backend-store-uri sqlite:///mlflow.db >>~/mlflow-server.log 2>&1 </dev/null &
