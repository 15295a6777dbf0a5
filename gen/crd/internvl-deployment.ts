// Generated from crds/internvldeployments.yaml by tools/generate-crd-types.ts. DO NOT EDIT.

/**
 * One served InternVL-Chat model, its tensor-parallel replicas and the router in front of them.
 */
export interface InternVLDeployment {
  /**
   * internvl.dev/v1alpha1.
   */
  apiVersion: string;
  /**
   * InternVLDeployment.
   */
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    creationTimestamp?: string;
    generation?: number;
    labels?: {
      [k: string]: string;
    };
    annotations?: {
      [k: string]: string;
    };
    deletionTimestamp?: string;
  };
  /**
   * What is wanted.
   */
  spec: {
    /**
     * Which checkpoint is served, and under which name.
     */
    model: {
      /**
       * Where the checkpoint is, a directory in the published Hugging Face layout: pvc://claim/path, hf://owner/name,
       * s3://bucket/prefix, oci://image or file:///path (a directory of every node). `internvl up` takes file: alone,
       * there also relative to the manifest (file:demo-model). This release loads pvc:// and file://; the others end in
       * the condition ModelLoaded=False with reason SourceNotSupported.
       */
      source: string;
      /**
       * Commit, tag or digest of the source, for hf://, s3:// and oci:// sources; default, the newest.
       */
      revision?: string;
      /**
       * Secret of the same namespace with the credentials that an hf://, s3:// or oci:// source asks for.
       */
      secretRef?: {
        /**
         * The Secret's name.
         */
        name: string;
      };
      /**
       * The model's name in requests. Default, the deployment's name.
       */
      servedName?: string;
    };
    /**
     * How many tensor-parallel groups serve. 0 stops serving and keeps the router.
     */
    replicas: number;
    /**
     * How one replica is split over ranks.
     */
    tensorParallel: {
      /**
       * Ranks of a replica; each holds 1/size of the weights.
       */
      size: number;
      /**
       * PodPerRank places each rank in its own pod, SinglePod all ranks as containers of one. docs/interconnect.md tells what each needs.
       */
      topology: 'PodPerRank' | 'SinglePod';
      /**
       * Required: no rank pod is made where the ranks' devices cannot reach each other directly, and a replica that measures at its
       * start that they do not ends. Preferred: they are made and serve, and the condition InterconnectVerified says so. Any: the ranks of a replica need not even be on one node.
       */
      interconnect: 'Required' | 'Preferred' | 'Any';
    };
    /**
     * How a replica computes and how much it takes on.
     */
    engine: {
      /**
       * Type of weights and activations. auto is bfloat16, the type that the models were published in.
       */
      dtype: 'auto' | 'float32' | 'bfloat16';
      /**
       * int8 and fp8 keep the linear layers of the language model in a byte each with a scale for each output, half the bytes of bfloat16. int8 rounds less; fp8 (e4m3) lets GPUs from compute capability 8.9 on also multiply prompts in it. The vision part, embeddings and output head stay as they are.
       */
      quantization: 'none' | 'int8' | 'fp8';
      /**
       * Tokens of prompt and answer together. Default, what the checkpoint was trained for.
       */
      maxModelLength?: number;
      /**
       * Sequences that run at once.
       */
      maxSequences: number;
      /**
       * Tokens of one engine step, prefill and decode together.
       */
      maxBatchedTokens: number;
      /**
       * Memory for keys and values on each rank, as a share of what is free or in bytes, and their type. Default, the share 0.3.
       */
      kvCache?: {
        /**
         * Share of the memory that is free after the weights are loaded.
         */
        fraction?: number;
        /**
         * Bytes: a number or a quantity such as 8Gi.
         */
        bytes?: number | string;
        /**
         * fp8 keeps keys and values as e4m3 with a scale for each token and head, so that the same memory holds nearly twice the tokens. auto, the default, as engine.dtype.
         */
        dtype?: 'auto' | 'fp8';
      };
      /**
       * What one request may bring along.
       */
      limits: {
        /**
         * Pictures of one request.
         */
        maxImages: number;
        /**
         * Bytes of one picture's file.
         */
        maxImageBytes: number | string;
      };
    };
    /**
     * The front door, which queues and batches requests over the replicas.
     */
    router: {
      /**
       * Router pods.
       */
      replicas: number;
      /**
       * How much may wait; beyond it requests are refused with RESOURCE_EXHAUSTED.
       */
      queue: {
        /**
         * Waiting requests.
         */
        maxRequests: number;
        /**
         * Bytes of waiting requests with their pictures.
         */
        maxBytes: number | string;
        /**
         * How long one request may wait, as 500ms, 60s or 1m30s.
         */
        maxWait: string;
      };
      /**
       * The Service that clients call.
       */
      service: {
        /**
         * Kind of Service.
         */
        type: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
        /**
         * Port of the gRPC API.
         */
        grpcPort: number;
        /**
         * Port of the router's metrics on the same Service. Default, none; scrapers reach the pods themselves.
         */
        metricsPort?: number;
      };
      /**
       * The router's image. Default, the one of the operator's release.
       */
      image?: string;
      /**
       * Requests and limits of the container.
       */
      resources?: {
        /**
         * Quantities by resource name.
         */
        requests?: {
          [k: string]: number | string;
        };
        /**
         * Quantities by resource name.
         */
        limits?: {
          [k: string]: number | string;
        };
      };
    };
    /**
     * How a change reaches the replicas, and how often a failing one is started again.
     */
    rollout: {
      /**
       * Surge starts the new replica before the old one ends, Recreate after; Auto surges when devices are free.
       */
      strategy: 'Auto' | 'Surge' | 'Recreate';
      /**
       * How long a leaving replica may finish its requests.
       */
      drainTimeout: string;
      /**
       * How long a new replica may take to become ready before the rollout counts as failed.
       */
      progressDeadline: string;
      /**
       * Failures in a row after which a replica is left down; a replica that stayed ready for ten minutes starts anew.
       */
      maxGroupRestarts: number;
    };
    /**
     * Requests and limits of the container.
     */
    resources?: {
      /**
       * Quantities by resource name.
       */
      requests?: {
        [k: string]: number | string;
      };
      /**
       * Quantities by resource name.
       */
      limits?: {
        [k: string]: number | string;
      };
    };
    /**
     * The accelerator that each rank gets one of, from a device plugin or from Dynamic Resource Allocation. Default, none; the rank
     * computes on the CPU.
     */
    device?: {
      /**
       * Extended resource of the device plugin, such as nvidia.com/gpu.
       */
      resourceName?: string;
      /**
       * DeviceClass of Dynamic Resource Allocation, such as gpu.nvidia.com. One ResourceClaim a replica then holds the devices of
       * all its ranks, which is what lets ranks in different pods reach each other's memory.
       */
      deviceClassName?: string;
    };
    /**
     * Labels of the nodes that rank pods may run on.
     */
    nodeSelector?: {
      [k: string]: string;
    };
    /**
     * Taints that rank pods tolerate. Without one of their own for node.kubernetes.io/not-ready and unreachable, they get 30 s.
     *
     * @maxItems 64
     */
    tolerations?: {
      /**
       * The taint's key; absent matches every key.
       */
      key?: string;
      /**
       * How the value is compared.
       */
      operator?: 'Exists' | 'Equal';
      /**
       * The taint's value.
       */
      value?: string;
      /**
       * The effect; absent matches every effect.
       */
      effect?: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
      /**
       * How long NoExecute is tolerated.
       */
      tolerationSeconds?: number;
    }[];
    /**
     * Which nodes rank pods may run on and prefer. Affinity between pods is the operator's: it keeps the ranks of a replica on one node.
     */
    affinity?: {
      /**
       * As in a pod, by labels of nodes.
       */
      nodeAffinity?: {
        /**
         * Nodes that rank pods may run on.
         */
        requiredDuringSchedulingIgnoredDuringExecution?: {
          /**
           * A node must match one of these.
           *
           * @minItems 1
           * @maxItems 16
           *
           * Items: All of its expressions must match.
           */
          nodeSelectorTerms: {
            /**
             * Demands on the node's labels.
             *
             * @minItems 1
             * @maxItems 16
             */
            matchExpressions: {
              /**
               * The label's name.
               */
              key: string;
              /**
               * How the label is compared with the values.
               */
              operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt';
              /**
               * What the label is compared with.
               *
               * @maxItems 64
               */
              values?: string[];
            }[];
          }[];
        };
        /**
         * Nodes that rank pods should rather run on.
         *
         * @maxItems 16
         */
        preferredDuringSchedulingIgnoredDuringExecution?: {
          /**
           * How much it counts against the other preferences.
           */
          weight: number;
          /**
           * All of its expressions must match.
           */
          preference: {
            /**
             * Demands on the node's labels.
             *
             * @minItems 1
             * @maxItems 16
             */
            matchExpressions: {
              /**
               * The label's name.
               */
              key: string;
              /**
               * How the label is compared with the values.
               */
              operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt';
              /**
               * What the label is compared with.
               *
               * @maxItems 64
               */
              values?: string[];
            }[];
          };
        }[];
      };
    };
    /**
     * Priority class of the rank pods.
     */
    priorityClassName?: string;
    /**
     * What rank pods carry beside what the operator gives them. A change makes new pods.
     */
    podTemplate?: {
      /**
       * Labels beside the operator's own.
       */
      labels?: {
        [k: string]: string;
      };
      /**
       * Annotations beside the operator's own.
       */
      annotations?: {
        [k: string]: string;
      };
      /**
       * Environment variables of every rank, beside those that the operator sets.
       *
       * @maxItems 64
       */
      env?: {
        /**
         * The variable's name.
         */
        name: string;
        /**
         * Its value.
         */
        value: string;
      }[];
      /**
       * RuntimeClass that the containers run under, such as nvidia.
       */
      runtimeClassName?: string;
    };
    /**
     * The runtime's image. Default, the one of the operator's release when the replica's revision was made.
     */
    image?: string;
    /**
     * When the images of ranks and router are pulled. Default, as Kubernetes does by the image's tag.
     */
    imagePullPolicy?: 'Always' | 'IfNotPresent' | 'Never';
    /**
     * Secrets of the same namespace to pull the images with.
     *
     * @maxItems 16
     */
    imagePullSecrets?: {
      /**
       * The Secret's name.
       */
      name: string;
    }[];
  };
  /**
   * What was last observed.
   */
  status?: {
    /**
     * The generation that this status tells of.
     */
    observedGeneration?: number;
    /**
     * Replicas that exist.
     */
    replicas?: number;
    /**
     * Replicas that a router has had an answer from.
     */
    readyReplicas?: number;
    /**
     * Replicas that are of the current revision.
     */
    updatedReplicas?: number;
    /**
     * Ready of wanted replicas, such as 2/2.
     */
    ready?: string;
    /**
     * Where the deployment is on its way, as one word.
     */
    phase?: string;
    /**
     * Label selector of the rank pods, for autoscalers.
     */
    selector?: string;
    /**
     * HOST:PORT of the gRPC API inside the cluster.
     */
    endpoint?: string;
    /**
     * Revision of the spec that replicas are being brought to.
     */
    currentRevision?: string;
    /**
     * What holds and why.
     *
     * @maxItems 16
     */
    conditions?: {
      /**
       * What the condition is about.
       */
      type: string;
      /**
       * Whether it holds.
       */
      status: 'True' | 'False' | 'Unknown';
      /**
       * Why, as one word.
       */
      reason: string;
      /**
       * Why, in words.
       */
      message: string;
      /**
       * When status last changed.
       */
      lastTransitionTime: string;
      /**
       * The generation it was set for.
       */
      observedGeneration?: number;
    }[];
    /**
     * The replicas, one by one; at most 32.
     *
     * @maxItems 32
     */
    groups?: {
      /**
       * Name of the replica and start of its pods' names.
       */
      name: string;
      /**
       * Revision that it was made from.
       */
      revision: string;
      /**
       * Node of rank 0.
       */
      node?: string;
      /**
       * Where the replica is on its way, as one word.
       */
      phase: string;
      /**
       * A router has had an answer from all its ranks.
       */
      ready: boolean;
      /**
       * Failures in a row.
       */
      restarts?: number;
      /**
       * Why it is in this phase.
       */
      message?: string;
      /**
       * How long each phase of its start took.
       */
      coldStart?: {
        /**
         * From the pods' creation until all have a node.
         */
        schedulingSeconds?: number;
        /**
         * From then until all containers run: images are pulled and volumes mounted.
         */
        startingSeconds?: number;
        /**
         * From then until all containers are ready: weights are loaded.
         */
        loadingSeconds?: number;
        /**
         * From then until a router has had an answer.
         */
        acknowledgingSeconds?: number;
      };
      /**
       * How its ranks reach each other, measured once at their start.
       */
      interconnect?: {
        /**
         * Uid of the rank-0 pod that measured.
         */
        pod?: string;
        /**
         * What computes: cpu or cuda.
         */
        backend?: string;
        /**
         * The slowest path between two ranks, such as P2P/CUMEM, SHM/direct/direct, NET/Socket/0 or TCP.
         */
        path?: string;
        /**
         * Every rank reaches the memory of every other's device.
         */
        direct?: boolean;
        /**
         * What each link carried in an all-reduce of reducedBytes.
         */
        busGigabytesPerSecond?: number;
        /**
         * Size of that all-reduce.
         */
        reducedBytes?: number;
        /**
         * What an all-reduce of one token took.
         */
        latencyMicroseconds?: number;
        /**
         * What keeps the devices from reaching each other; docs/interconnect.md has each.
         *
         * @maxItems 16
         */
        failedGates?: {
          /**
           * Its name.
           */
          gate: string;
          /**
           * What was found, and what to change.
           */
          message: string;
        }[];
      };
    }[];
    /**
     * Replicas that groups has no place for.
     */
    groupsOmitted?: number;
    /**
     * Evidence of the replica that failed last.
     */
    lastFailure?: {
      /**
       * Name of the replica.
       */
      group: string;
      /**
       * The rank that ended first.
       */
      rank?: number;
      /**
       * Exit code of its process.
       */
      exitCode?: number;
      /**
       * Why it ended, as one word.
       */
      reason: string;
      /**
       * What it wrote last.
       *
       * @maxItems 20
       */
      lastLines?: string[];
      /**
       * When it was seen.
       */
      time: string;
    };
  };
}
