"""Values with which the chart is rendered: people's choices, one at a time and together."""

from __future__ import annotations

from typing import Any, Final

from tests.helm.release import CHART, example, merged

Values = dict[str, Any]

_KEDA: Final[Values] = {
    "worker": {"autoscaling": {"type": "keda", "keda": {"serverAddress": "http://prometheus.monitoring:9090"}}}
}

OWN_LABELS: Final = {
    "app.kubernetes.io/name": "a",
    "app.kubernetes.io/instance": "b",
    "app.kubernetes.io/component": "c",
    "team": "phones",
}
"""Labels with the names of selectors, which the chart itself sets."""

SIDECAR: Final[Values] = {
    "name": "sidecar",
    "image": "registry.example.com/sidecar:1",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "volumeMounts": [{"name": "tmp", "mountPath": "/scratch"}],
}
"""A container of people's own."""

MATRIX: Final[dict[str, Values]] = {
    "defaults": {},
    "names of its own": {"fullnameOverride": "calls", "nameOverride": "voice", "commonLabels": {"team": "phones"}},
    "labels and annotations of the chart's": {
        "commonLabels": {**OWN_LABELS, "app.kubernetes.io/version": "ours"},
        "serviceAccount": {"annotations": {"a": "b"}},
        **{
            role: {
                "podLabels": OWN_LABELS,
                "podAnnotations": {
                    "kubectl.kubernetes.io/default-container": "sidecar",
                    "karpenter.sh/do-not-disrupt": "false",
                },
            }
            for role in ("dispatcher", "worker")
        },
        "monitoring": {
            name: {"enabled": True, "labels": OWN_LABELS}
            for name in ("serviceMonitor", "prometheusRule", "dashboards")
        },
    },
    "keda with fields of the chart's": merged(
        _KEDA,
        {"worker": {"autoscaling": {"keda": {"metadata": {"threshold": "0.5", "ignoreNullValues": "true"}}}}},
    ),
    "a namespace of its own": {
        "namespaceOverride": "calls",
        "serviceAccount": {"create": True},
        "instructions": {"text": "Be brief.\n"},
        "tools": {"files": {"a.py": ""}},
        "dispatcher": {"ingress": {"enabled": True, "hosts": [{"host": "a.example.com"}]}},
        "worker": _KEDA["worker"],
        "monitoring": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards")},
    },
    "a very long name": {"fullnameOverride": "a" * 80},
    "registries": {
        "global": {"imageRegistry": "mirror.example.com", "imagePullSecrets": ["mirror", {"name": "other"}]},
        "image": {"registry": "registry.example.com"},
        "redis": {"bundled": {"image": {"digest": f"sha256:{'1' * 64}", "pullPolicy": "Always"}}},
    },
    "image by digest": {"image": {"digest": f"sha256:{'0' * 64}"}, "imagePullSecrets": [{"name": "registry"}]},
    "every kind of setting": {
        "config": {
            "OPENAI_INSTRUCTIONS": 'It costs $5 {from}.\n"Quoted": $(HOME)',
            "OPENAI_WELCOME_INTERRUPTIBLE": False,
            "WORKER_MAX_CALLS": 100_000,
            "OPENAI_SPEED": 1.25,
            "OPENAI_SESSION": {"audio": {"output": {"speed": 1.1}}},
            "OPENAI_MCP_SERVERS": [{"server_label": "crm", "server_url": "https://crm.example.com/mcp"}],
            "LOG_LEVEL": "debug",
            "OPENAI_LANGUAGE": None,
        }
    },
    "redis by url": {"redis": {"url": "rediss://redis.example.com:6380/1"}},
    "redis by host": {
        "redis": {
            "host": "redis-master.data.svc",
            "port": 6380,
            "db": 2,
            "tls": True,
            "username": "calls",
            "existingSecret": "redis",
        }
    },
    "redis by sentinels": {
        "redis": {
            "sentinel": {
                "hosts": ["sentinel-0.data.svc", "sentinel-1.data.svc:26380", "[fd00::3]:26380"],
                "service": "calls",
                "username": "watch",
                "existingSecret": "sentinels",
            },
            "port": 6380,
            "db": 2,
            "tls": True,
            "username": "calls",
            "existingSecret": "redis",
        }
    },
    "secrets as files": {
        "configFromSecrets": {
            "OPENAI_API_KEY": {"name": "keys", "key": "openai", "asFile": True},
            "STS_TOKEN": {"name": "tokens", "key": "STS_TOKEN", "asFile": True},
            "CLUSTER_TOKEN": {"name": "tokens", "key": "CLUSTER_TOKEN", "asFile": True},
            "ADMIN_TOKEN": {"name": "tokens", "key": "ADMIN_TOKEN"},
        }
    },
    "a key of vault": {
        "configFromSecrets": {"OPENAI_API_KEY": None},
        "config": {"OPENAI_API_KEY_FILE": "/vault/secrets/openai", "STS_TOKEN_FILE": "/vault/secrets/sts"},
    },
    "ports of URLs in secrets": {
        "configFromSecrets": {
            name: {"name": "urls", "key": name}
            for name in (
                *("AMI_URL", "CALL_RECORDS_WEBHOOK", "CALL_RECORDS_SECRET", "CALL_RECORDS_REDIS_URL"),
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        },
        "networkPolicy": {
            "amiPort": 16006,
            "webhookPort": 18443,
            "recordsRedisPort": 16379,
            "otlpPort": 14317,
            "dispatcherPorts": [12345],
        },
    },
    "redis by secret": {"configFromSecrets": {"REDIS_URL": {"name": "redis", "key": "url"}}},
    "tls": {"dispatcher": {"tls": {"secretName": "calls-tls"}}, "clusterTls": {"secretName": "link-tls"}},
    "recordings": {
        "dispatcher": {"recordings": {"existingClaim": "recordings"}},
        "config": {"RECORDINGS_KEEP_SECONDS": 86_400},
    },
    "tools and instructions": {
        "tools": {"files": {"a.js": "module.exports = {}\n", "b.py": "name = 'b'\n"}},
        "instructions": {"text": "Be brief.\n"},
    },
    "tools and instructions of one's own": {
        "tools": {"existingConfigMap": "our-tools"},
        "instructions": {"existingConfigMap": "our-agent", "key": "agent.md"},
    },
    "hpa": {"worker": {"autoscaling": {"type": "hpa"}}},
    "keda": merged(
        _KEDA,
        {
            "worker": {
                "autoscaling": {
                    "keda": {
                        "metadata": {"authModes": "bearer"},
                        "authenticationRef": {"name": "prometheus", "kind": "ClusterTriggerAuthentication"},
                    }
                }
            }
        },
    ),
    "dispatchers by hpa": {"dispatcher": {"autoscaling": {"enabled": True}}},
    "dispatchers by a metric of their own": {
        "dispatcher": {
            "autoscaling": {
                "enabled": True,
                "minReplicas": 3,
                "maxReplicas": 30,
                "metrics": [
                    {
                        "type": "Pods",
                        "pods": {
                            "metric": {"name": "avr_sts_calls_active"},
                            "target": {"type": "AverageValue", "averageValue": "200"},
                        },
                    }
                ],
            }
        }
    },
    "a budget of available pods": {
        role: {"podDisruptionBudget": {"minAvailable": "50%"}} for role in ("dispatcher", "worker")
    },
    "two families of addresses": {
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv6", "IPv4"],
    },
    "a route of everything": {
        "commonLabels": {"team": "phones"},
        "dispatcher": {
            "httpRoute": {
                "enabled": True,
                "annotations": {"a": "b"},
                "parentRefs": [{"name": "edge", "namespace": "gateways", "sectionName": "https"}],
                "hostnames": ["calls.example.com"],
                "path": "/calls",
                "filters": [
                    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["X-Internal"]}}
                ],
                "timeouts": {"request": "2h"},
            }
        },
    },
    "node port": {
        "dispatcher": {"service": {"type": "NodePort", "nodePort": 30630, "externalTrafficPolicy": "Local"}}
    },
    "nothing that is optional": {
        "serviceAccount": {"create": False},
        "networkPolicy": {"enabled": False},
        "dispatcher": {
            "podDisruptionBudget": {"enabled": False},
            "preStopSeconds": 0,
            "waitForWorkersSeconds": 0,
            "safeToEvict": True,
            "topologySpreadConstraints": [],
            "resources": {"limits": None, "requests": None},
        },
        "worker": {"podDisruptionBudget": {"enabled": False}, "topologySpreadConstraints": []},
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
    },
    "a place of their own": {
        role: {
            "priorityClassName": "calls",
            "nodeSelector": {"pool": "calls"},
            "tolerations": [{"key": "calls", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
                    ]
                }
            },
            "topologySpreadConstraints": [
                {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"},
            ],
            "podAnnotations": {"example.com/a": "b"},
            "podLabels": {"sidecar": "none"},
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1},
            "extraEnv": [{"name": "NODE_EXTRA_CA_CERTS", "value": "/ca/ca.pem"}],
            "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
            "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
        }
        for role in ("dispatcher", "worker")
    },
    "monitoring": {
        "monitoring": {
            "serviceMonitor": {
                "enabled": True,
                "labels": {"release": "prometheus"},
                "relabelings": [{"targetLabel": "cluster", "replacement": "berlin"}],
                "metricRelabelings": [
                    {"sourceLabels": ["__name__"], "regex": "avr_sts_tool_.*", "action": "drop"}
                ],
            },
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboards": {
                "enabled": True,
                "pageUrl": "https://calls.example.com/",
                "annotations": {"grafana_folder": "Calls"},
            },
        }
    },
    "fields of Kubernetes": {
        role: {
            "deploymentLabels": {"tier": "calls"},
            "deploymentAnnotations": {"reloader.stakater.com/auto": "true"},
            "envFrom": [{"secretRef": {"name": "more", "optional": True}}],
            "extraInitContainers": [{**SIDECAR, "name": "warm-up"}],
            "extraContainers": [{**SIDECAR, "ports": [{"name": "proxy", "containerPort": 15001}]}],
            "podSpec": {
                "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
                "runtimeClassName": "gvisor",
                "automountServiceAccountToken": False,
                "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
                "containers": [{"name": "sidecar", "tty": True}],
            },
            "containerSpec": {
                "lifecycle": {"postStart": {"exec": {"command": ["true"]}}},
                "resources": {"limits": {"cpu": "2"}},
                "env": [{"name": "ADMIN_PORT", "value": "9090"}, {"name": "TZ", "value": "UTC"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/cache"}],
            },
            "startupProbe": {"failureThreshold": 120},
            "livenessProbe": {"httpGet": None, "exec": {"command": ["avr-sts-openai", "healthcheck"]}},
            "readinessProbe": {"periodSeconds": 5},
        }
        for role in ("dispatcher", "worker")
    },
    "no probes": {
        role: {"startupProbe": None, "livenessProbe": None, "readinessProbe": None}
        for role in ("dispatcher", "worker")
    },
    "objects of their own": {
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": '{{ include "avr-sts.fullname" . }}-more',
                    "namespace": "{{ .Release.Namespace }}",
                },
                "data": {"release": "{{ .Release.Name }}", "count": "3"},
            },
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}-more\n"
            "stringData: {a: '{{ add 1 1 }}'}\n",
        ]
    },
    "restricted egress": {
        "networkPolicy": {
            "redisPort": 16379,
            "workerEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
            "dispatcherEgress": [{"to": [{"podSelector": {"matchLabels": {"app": "avr-ami"}}}]}],
        },
        "configFromSecrets": {"REDIS_URL": {"name": "redis", "key": "url"}},
    },
    **{
        f"example {file.stem}": example(file.stem)
        for file in sorted((CHART / "examples").glob("*.yaml"))
        if file.stem != "prometheus-adapter"
    },
}
"""Values by the name of the choice."""
