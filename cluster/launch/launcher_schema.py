"""What Ray's own schema of launcher files leaves open: what a machine of a cloud is like."""

from cluster.launch.schemas import ANY, BOOLEAN, INTEGER, TEXT, Schema, choice, fields, items

_EBS = fields(
    VolumeSize=INTEGER, VolumeType=TEXT, DeleteOnTermination=BOOLEAN, Encrypted=BOOLEAN,
    Iops=INTEGER, Throughput=INTEGER, KmsKeyId=TEXT, SnapshotId=TEXT,
)  # fmt: skip
_AWS = fields(
    ["InstanceType"],
    InstanceType=TEXT, ImageId=TEXT, KeyName=TEXT, SubnetIds=items(TEXT), SubnetId=TEXT,
    SecurityGroupIds=items(TEXT), NetworkInterfaces=items(ANY), EbsOptimized=BOOLEAN,
    BlockDeviceMappings=items(fields(["DeviceName"], DeviceName=TEXT, Ebs=_EBS, NoDevice=TEXT,
                                     VirtualName=TEXT)),
    InstanceMarketOptions=fields(
        ["MarketType"],
        MarketType=choice("spot", "capacity-block"),
        SpotOptions=fields(MaxPrice=TEXT, SpotInstanceType=TEXT, BlockDurationMinutes=INTEGER,
                           ValidUntil=TEXT, InstanceInterruptionBehavior=TEXT),
    ),
    IamInstanceProfile=fields(Arn=TEXT, Name=TEXT), Monitoring=fields(Enabled=BOOLEAN),
    Placement=ANY, TagSpecifications=items(ANY), UserData=TEXT, CpuOptions=ANY,
    MetadataOptions=fields(HttpTokens=choice("required", "optional"),
                           HttpPutResponseHopLimit=INTEGER, HttpEndpoint=TEXT,
                           HttpProtocolIpv6=TEXT, InstanceMetadataTags=TEXT),
    CapacityReservationSpecification=ANY, CreditSpecification=ANY, LaunchTemplate=ANY,
    InstanceInitiatedShutdownBehavior=TEXT, DisableApiTermination=BOOLEAN,
)  # fmt: skip
_GCP = fields(
    ["machineType"],
    machineType=TEXT, minCpuPlatform=TEXT, description=TEXT, hostname=TEXT, zone=TEXT, name=TEXT,
    disks={**items(fields(
        boot=BOOLEAN, autoDelete=BOOLEAN, type=choice("PERSISTENT", "SCRATCH"), mode=TEXT,
        interface=TEXT, deviceName=TEXT, source=TEXT, diskEncryptionKey=ANY,
        initializeParams=fields(diskSizeGb={"type": ["integer", "string"]}, sourceImage=TEXT,
                                diskType=TEXT, diskName=TEXT, labels=ANY, sourceSnapshot=TEXT),
    )), "minItems": 1},
    networkInterfaces=items(fields(
        kind=TEXT, network=TEXT, subnetwork=TEXT, networkIP=TEXT, nicType=TEXT, name=TEXT,
        stackType=TEXT, aliasIpRanges=items(ANY),
        accessConfigs=items(fields(kind=TEXT, type=TEXT, name=TEXT, natIP=TEXT, networkTier=TEXT)),
    )),
    guestAccelerators=items(fields(
        ["acceleratorType", "acceleratorCount"],
        acceleratorType=TEXT, acceleratorCount={"type": "integer", "minimum": 1},
    )),
    scheduling={"anyOf": [items(ANY), {"type": "object"}]},
    serviceAccounts=items(fields(email=TEXT, scopes=items(TEXT))),
    metadata=fields(kind=TEXT, items=items(fields(["key"], key=TEXT, value=TEXT)),
                    fingerprint=TEXT),
    labels={"type": "object"}, tags=fields(items=items(TEXT), fingerprint=TEXT),
    canIpForward=BOOLEAN, deletionProtection=BOOLEAN, shieldedInstanceConfig=ANY,
    reservationAffinity=ANY, confidentialInstanceConfig=ANY, advancedMachineFeatures=ANY,
    sourceInstanceTemplate=TEXT, acceleratorType=TEXT, runtimeVersion=TEXT,
)  # fmt: skip
_CLOUD = {
    "type": TEXT, "region": TEXT, "availability_zone": TEXT, "cache_stopped_nodes": BOOLEAN,
    "use_internal_ips": BOOLEAN, "disable_node_updaters": BOOLEAN, "security_group": ANY,
}  # fmt: skip
PROVIDER: dict[str, Schema] = {
    "local": {
        **fields(["type"], type=TEXT, head_ip=TEXT, worker_ips=items(TEXT), module=TEXT,
                 coordinator_address=TEXT, external_head_ip=TEXT, use_internal_ips=BOOLEAN),
        "anyOf": [{"required": ["head_ip", "worker_ips"]}, {"required": ["coordinator_address"]}],
    },
    "aws": fields(["type", "region"], **_CLOUD, cloudwatch=ANY, aws_credentials=ANY),
    "gcp": fields(["type", "region", "project_id"], **_CLOUD, project_id=TEXT,
                  gcp_credentials=ANY),
}  # fmt: skip
NODE: dict[str, Schema] = {"aws": _AWS, "gcp": _GCP}
SCHEDULING = fields(
    preemptible=BOOLEAN, onHostMaintenance=choice("TERMINATE", "MIGRATE"),
    automaticRestart=BOOLEAN,
    provisioningModel=choice("SPOT", "STANDARD"), instanceTerminationAction=TEXT,
    maxRunDuration=ANY, nodeAffinities=items(ANY),
)  # fmt: skip
