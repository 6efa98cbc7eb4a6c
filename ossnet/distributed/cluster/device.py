"""What a job's workers train on, which the machine of the job itself may lack: a cluster's head mostly has no
GPU."""

import os

from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.cluster.nodes import nodes
from ossnet.planning.configure.recipe import Device

_TYPE = "accelerator_type:"
_WITHOUT_BF16 = frozenset({"K80", "P4", "P100", "V100", "T4"})


def training_device() -> Device:
    """This machine's GPU, else those of the cluster of `RAY_ADDRESS` or of its autoscaler, else CPUs.

    Matrices are multiplied in bfloat16 where each GPU's type is known, as Ray names it, and can do it.

    Raises:
        UserError: the cluster does not answer.
    """
    here = Device.here()
    if here.kind == "cuda" or not os.environ.get("RAY_ADDRESS"):
        return here
    with connect():
        gpus = [node for node in nodes() if node.get("GPU")]
    types = [{name.removeprefix(_TYPE) for name in node if name.startswith(_TYPE)} for node in gpus]
    return Device("cuda", bf16=all(each and not each & _WITHOUT_BF16 for each in types)) if gpus else here
