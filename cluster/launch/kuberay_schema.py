"""The fields of `ray.io/v1` objects, and of the pods in them, by name and type.

Strict where the cluster is lenient: a field that is not here is refused, as a misspelt one would
be dropped by Kubernetes without a word. Parts of a pod that launch files hardly use are any value.
"""

from cluster.launch.schemas import (
    ANY,
    BOOLEAN,
    INTEGER,
    TEXT,
    TEXTS,
    Schema,
    choice,
    fields,
    items,
)

NUMBER: Schema = {"type": "number"}
QUANTITY: Schema = {"type": ["string", "integer", "number"]}
PORT: Schema = {"type": ["string", "integer"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
_AMOUNTS: Schema = {"type": "object", "additionalProperties": QUANTITY}
_REFERENCE = fields(["name", "key"], name=TEXT, key=TEXT, optional=BOOLEAN)
_METADATA = fields(
    name=TEXT, generateName=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS,
    finalizers=items(TEXT),
)  # fmt: skip
_RESOURCES = fields(limits=_AMOUNTS, requests=_AMOUNTS, claims=items(ANY))
_ENV = fields(
    ["name"],
    name=TEXT,
    value=TEXT,
    valueFrom=fields(
        secretKeyRef=_REFERENCE, configMapKeyRef=_REFERENCE, fieldRef=ANY, resourceFieldRef=ANY
    ),
)
_CAPABILITIES = fields(add=items(TEXT), drop=items(TEXT))
_CONTAINER_SECURITY = fields(
    allowPrivilegeEscalation=BOOLEAN, capabilities=_CAPABILITIES, privileged=BOOLEAN,
    readOnlyRootFilesystem=BOOLEAN, runAsGroup=INTEGER, runAsNonRoot=BOOLEAN, runAsUser=INTEGER,
    seccompProfile=ANY, seLinuxOptions=ANY, appArmorProfile=ANY, procMount=TEXT,
)  # fmt: skip
_POD_SECURITY = fields(
    fsGroup=INTEGER, fsGroupChangePolicy=TEXT, runAsGroup=INTEGER, runAsNonRoot=BOOLEAN,
    runAsUser=INTEGER, supplementalGroups=items(INTEGER), seccompProfile=ANY, seLinuxOptions=ANY,
    sysctls=items(ANY), appArmorProfile=ANY,
)  # fmt: skip
_MOUNT = fields(
    ["name", "mountPath"],
    name=TEXT, mountPath=TEXT, readOnly=BOOLEAN, subPath=TEXT, subPathExpr=TEXT,
    mountPropagation=TEXT, recursiveReadOnly=TEXT,
)  # fmt: skip
_CONTAINER = fields(
    ["name", "image"],
    name=TEXT, image=TEXT, imagePullPolicy=choice("Always", "IfNotPresent", "Never"),
    command=items(TEXT), args=items(TEXT), workingDir=TEXT, env=items(_ENV), envFrom=items(ANY),
    ports=items(fields(["containerPort"], containerPort=INTEGER, name=TEXT, protocol=TEXT,
                       hostPort=INTEGER, hostIP=TEXT)),
    resources=_RESOURCES, volumeMounts=items(_MOUNT), volumeDevices=items(ANY),
    securityContext=_CONTAINER_SECURITY, lifecycle=fields(preStop=ANY, postStart=ANY),
    livenessProbe=ANY, readinessProbe=ANY, startupProbe=ANY, terminationMessagePath=TEXT,
    terminationMessagePolicy=TEXT, stdin=BOOLEAN, stdinOnce=BOOLEAN, tty=BOOLEAN,
    restartPolicy=TEXT, resizePolicy=items(ANY),
)  # fmt: skip
_VOLUME = fields(
    ["name"],
    name=TEXT, emptyDir=fields(medium=choice("", "Memory"), sizeLimit=QUANTITY),
    persistentVolumeClaim=fields(["claimName"], claimName=TEXT, readOnly=BOOLEAN),
    hostPath=fields(["path"], path=TEXT, type=TEXT), secret=ANY, configMap=ANY,
    nfs=fields(["server", "path"], server=TEXT, path=TEXT, readOnly=BOOLEAN), csi=ANY,
    ephemeral=ANY, projected=ANY, downwardAPI=ANY, cephfs=ANY, glusterfs=ANY, azureFile=ANY,
    local=ANY, image=ANY,
)  # fmt: skip
_POD = fields(
    ["spec"],
    metadata=_METADATA,
    spec=fields(
        ["containers"],
        containers={**items(_CONTAINER), "minItems": 1}, initContainers=items(_CONTAINER),
        volumes=items(_VOLUME), nodeSelector=TEXTS,
        tolerations=items(fields(key=TEXT, operator=choice("Exists", "Equal"), value=TEXT,
                                 effect=TEXT, tolerationSeconds=INTEGER)),
        affinity=ANY, topologySpreadConstraints=items(ANY), serviceAccountName=TEXT,
        automountServiceAccountToken=BOOLEAN, terminationGracePeriodSeconds=COUNT,
        restartPolicy=choice("Always", "OnFailure", "Never"), securityContext=_POD_SECURITY,
        imagePullSecrets=items(fields(name=TEXT)), priorityClassName=TEXT, schedulerName=TEXT,
        hostNetwork=BOOLEAN, hostPID=BOOLEAN, hostIPC=BOOLEAN, shareProcessNamespace=BOOLEAN,
        dnsPolicy=TEXT, dnsConfig=ANY, hostAliases=items(ANY), runtimeClassName=TEXT,
        activeDeadlineSeconds=INTEGER, enableServiceLinks=BOOLEAN, hostname=TEXT, subdomain=TEXT,
        preemptionPolicy=TEXT, priority=INTEGER, nodeName=TEXT, overhead=ANY, resources=_RESOURCES,
        schedulingGates=items(ANY), resourceClaims=items(ANY), readinessGates=items(ANY),
    ),
)  # fmt: skip
_REDIS = fields(value=TEXT, valueFrom=ANY)
_CLUSTER = fields(
    ["headGroupSpec"],
    rayVersion=TEXT, enableInTreeAutoscaling=BOOLEAN, suspend=BOOLEAN,
    managedBy=choice("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    authOptions=fields(["mode"], mode=choice("token", "disabled"), secretName=TEXT),
    autoscalerOptions=fields(
        version=choice("v1", "v2"), idleTimeoutSeconds=COUNT,
        upscalingMode=choice("Default", "Aggressive", "Conservative"), image=TEXT,
        imagePullPolicy=TEXT, resources=_RESOURCES, env=items(_ENV), envFrom=items(ANY),
        volumeMounts=items(_MOUNT), securityContext=_CONTAINER_SECURITY,
    ),
    gcsFaultToleranceOptions=fields(
        redisAddress=TEXT, redisUsername=_REDIS, redisPassword=_REDIS,
        externalStorageNamespace=TEXT,
    ),
    headServiceAnnotations=TEXTS, upgradeStrategy=ANY, networkPolicy=ANY,
    headGroupSpec=fields(
        ["rayStartParams", "template"],
        rayStartParams=TEXTS, template=_POD, headService=ANY, enableIngress=BOOLEAN,
        serviceType=choice("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        resources=TEXTS, labels=TEXTS,
    ),
    workerGroupSpecs=items(fields(
        ["groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"],
        groupName=TEXT, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT,
        numOfHosts={"type": "integer", "minimum": 1}, idleTimeoutSeconds=COUNT, suspend=BOOLEAN,
        rayStartParams=TEXTS, template=_POD, scaleStrategy=ANY, resources=TEXTS, labels=TEXTS,
    )),
)  # fmt: skip
_RULES = fields(
    onSuccess=fields(policy=TEXT), onFailure=fields(policy=TEXT),
    deletionRules=items(fields(["policy", "condition"], policy=TEXT, condition=ANY)),
)  # fmt: skip
_JOB = fields(
    ["entrypoint"],
    entrypoint=TEXT, rayClusterSpec=_CLUSTER, clusterSelector=TEXTS, runtimeEnvYAML=TEXT,
    submissionMode=choice("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    shutdownAfterJobFinishes=BOOLEAN, ttlSecondsAfterFinished=COUNT, backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    deletionStrategy=_RULES, submitterConfig=fields(backoffLimit=COUNT), submitterPodTemplate=_POD,
    entrypointNumCpus=NUMBER, entrypointNumGpus=NUMBER, entrypointResources=TEXT, jobId=TEXT,
    metadata=TEXTS, suspend=BOOLEAN,
    managedBy=choice("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
)  # fmt: skip


def _object(version: str, kind: str, spec: Schema) -> Schema:
    return fields(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion=choice(version), kind=choice(kind), spec=spec, status=ANY,
        metadata={**_METADATA, "required": ["name"]},
    )  # fmt: skip


SCHEMAS: dict[str, Schema] = {
    "RayJob": _object("ray.io/v1", "RayJob", _JOB),
    "RayCluster": _object("ray.io/v1", "RayCluster", _CLUSTER),
    "PersistentVolumeClaim": _object(
        "v1",
        "PersistentVolumeClaim",
        fields(
            ["accessModes", "resources"],
            accessModes=items(choice("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany",
                                     "ReadWriteOncePod")),
            storageClassName=TEXT, resources=_RESOURCES, volumeMode=TEXT, volumeName=TEXT,
            selector=ANY, dataSource=ANY, dataSourceRef=ANY,
        ),
    ),
}  # fmt: skip
