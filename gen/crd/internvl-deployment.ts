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
       * Where the checkpoint is, a directory in the published Hugging Face layout: hf://owner/name, pvc://claim/path, s3://bucket/prefix, oci://image or file:///path (a directory of every node). `internvl up` takes file: alone, there also relative to the manifest (file:demo-model).
       */
      source: string;
      /**
       * Commit, tag or digest of the source, where it has such.
       */
      revision?: string;
      /**
       * Secret of the same namespace with the credentials that the source asks for.
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
      size: 1 | 2 | 4 | 8;
      /**
       * PodPerRank places each rank in its own pod, SinglePod all ranks as containers of one.
       */
      topology: 'PodPerRank' | 'SinglePod';
      /**
       * Whether ranks must have the direct device interconnect, should have it, or take any path.
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
       * Weight quantization.
       */
      quantization: 'none';
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
       * Memory for keys and values on each rank, as a share of what is free or in bytes. Default, the share 0.3.
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
     * The accelerator that each rank gets one of. Default, none; the rank computes on the CPU.
     */
    device?: {
      /**
       * Extended resource of the device plugin, such as nvidia.com/gpu.
       */
      resourceName: string;
    };
    /**
     * Labels of the nodes that rank pods may run on.
     */
    nodeSelector?: {
      [k: string]: string;
    };
    /**
     * Taints that rank pods tolerate.
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
     * Priority class of the rank pods.
     */
    priorityClassName?: string;
    /**
     * The runtime's image. Default, the one of the operator's release.
     */
    image?: string;
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
     * Ready of wanted replicas, such as 2/2.
     */
    ready?: string;
    /**
     * Label selector of the rank-0 pods, for autoscalers.
     */
    selector?: string;
    /**
     * What holds and why.
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
  };
}
