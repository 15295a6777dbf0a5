// What the operator tells Prometheus: controller-runtime's names where it has them, so that existing dashboards work, and its own for the domain.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { CONDITIONS } from './api.ts';
import type { Verb } from './kube/api-client.ts';
import type { ControllerObserver } from './kube/controller.ts';
import type { Resource } from './kube/object.ts';
import type { ReflectorObserver } from './kube/reflector.ts';
import type { QueueObserver } from './kube/work-queue.ts';
import type { Status } from './write-plan.ts';

const CONTROLLER = 'internvldeployment';
/** controller-runtime's. */
const RECONCILE_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
/** client-go's. */
const QUEUE_BUCKETS = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10];
/** From a warm demo to a 40B model that is fetched. */
const COLD_START_BUCKETS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];

const RESULTS = ['success', 'requeue_after', 'conflict', 'error', 'terminal'] as const;
const PHASES = {
  scheduling: 'schedulingSeconds',
  starting: 'startingSeconds',
  loading: 'loadingSeconds',
  acknowledging: 'acknowledgingSeconds',
} as const;

/** A group as the status tells of it. */
interface ToldGroup {
  readonly name: string;
  readonly phase?: string;
  readonly restarts?: number;
  readonly coldStart?: Readonly<Record<string, number | undefined>>;
}

/** What is read when Prometheus asks. */
export interface MetricsSource {
  /** Of every deployment that is known. */
  statuses(): Iterable<Status>;
  readonly queueDepth: number;
  readonly unfinishedWorkSeconds: number;
  readonly longestRunningSeconds: number;
  readonly unsynced: readonly string[];
  readonly synced: readonly string[];
}

/** All metrics of one operator process. Labels are bounded: verbs, codes, kinds, condition types and phases. */
export class OperatorMetrics {
  readonly registry = new Registry();
  readonly queue: QueueObserver;
  readonly controller: ControllerObserver;
  readonly #requests: Counter<'code' | 'method' | 'resource'>;
  readonly #requestSeconds: Histogram<'verb'>;
  readonly #lists: Counter<'resource' | 'outcome'>;
  readonly #watches: Counter<'resource' | 'outcome'>;
  readonly #master: Gauge<'name'>;
  readonly #groupRestarts: Counter;
  readonly #coldStart: Histogram<'phase'>;

  constructor(options: {
    readonly workers: number;
    readonly leaseName: string;
    readonly source: () => MetricsSource;
  }) {
    const registers = [this.registry];
    const { source } = options;
    const controller = { controller: CONTROLLER };
    const queue = { name: CONTROLLER, controller: CONTROLLER };

    const reconciles = new Counter({
      name: 'controller_runtime_reconcile_total',
      help: 'Reconciles that ended, by result',
      labelNames: ['controller', 'result'],
      registers,
    });
    for (const result of RESULTS) reconciles.inc({ ...controller, result }, 0);
    const errors = new Counter({
      name: 'controller_runtime_reconcile_errors_total',
      help: 'Reconciles that failed',
      labelNames: ['controller'],
      registers,
    });
    errors.inc(controller, 0);
    const terminal = new Counter({
      name: 'controller_runtime_terminal_reconcile_errors_total',
      help: 'Reconciles that failed and are not tried again before the object changes',
      labelNames: ['controller'],
      registers,
    });
    terminal.inc(controller, 0);
    const seconds = new Histogram({
      name: 'controller_runtime_reconcile_time_seconds',
      help: 'Length of a reconcile',
      labelNames: ['controller'],
      buckets: RECONCILE_BUCKETS,
      registers,
    });
    const active = new Gauge({
      name: 'controller_runtime_active_workers',
      help: 'Reconciles under way',
      labelNames: ['controller'],
      registers,
    });
    active.set(controller, 0);
    new Gauge({
      name: 'controller_runtime_max_concurrent_reconciles',
      help: 'Reconciles that may be under way at once',
      labelNames: ['controller'],
      registers,
    }).set(controller, options.workers);
    this.controller = {
      reconciled: (result, time) => {
        reconciles.inc({ ...controller, result });
        if (result === 'error' || result === 'terminal') errors.inc(controller);
        if (result === 'terminal') terminal.inc(controller);
        seconds.observe(controller, time);
      },
      activeWorkers: (count) => active.set(controller, count),
    };

    const queueCounter = (name: string, help: string): Counter<'name' | 'controller'> => {
      const counter = new Counter({ name, help, labelNames: ['name', 'controller'] as const, registers });
      counter.inc(queue, 0);
      return counter;
    };
    const queueHistogram = (name: string, help: string): Histogram<'name' | 'controller'> =>
      new Histogram({
        name,
        help,
        labelNames: ['name', 'controller'] as const,
        buckets: QUEUE_BUCKETS,
        registers,
      });
    const adds = queueCounter('workqueue_adds_total', 'Keys added');
    const retries = queueCounter('workqueue_retries_total', 'Keys added again after a failure');
    const queued = queueHistogram('workqueue_queue_duration_seconds', 'Time a key waited');
    const worked = queueHistogram('workqueue_work_duration_seconds', 'Time a key was handled');
    this.queue = {
      added: () => adds.inc(queue),
      retried: () => retries.inc(queue),
      queued: (time) => queued.observe(queue, time),
      worked: (time) => worked.observe(queue, time),
    };
    this.#scraped('workqueue_depth', 'Keys that wait', queue, () => source().queueDepth);
    this.#scraped(
      'workqueue_unfinished_work_seconds',
      'Age of all work under way',
      queue,
      () => source().unfinishedWorkSeconds,
    );
    this.#scraped(
      'workqueue_longest_running_processor_seconds',
      'Age of the oldest work under way',
      queue,
      () => source().longestRunningSeconds,
    );

    this.#requests = new Counter({
      name: 'rest_client_requests_total',
      help: 'Requests to the API server, by HTTP code (<error>: no answer), verb and resource',
      labelNames: ['code', 'method', 'resource'],
      registers,
    });
    this.#requestSeconds = new Histogram({
      name: 'rest_client_request_duration_seconds',
      help: 'Time to the answer of a request; for a watch, to its begin',
      labelNames: ['verb'],
      buckets: RECONCILE_BUCKETS,
      registers,
    });
    this.#master = new Gauge({
      name: 'leader_election_master_status',
      help: '1 while this process may act',
      labelNames: ['name'],
      registers,
    });
    this.#master.set({ name: options.leaseName }, 0);
    this.leading = (leading) => this.#master.set({ name: options.leaseName }, leading ? 1 : 0);

    this.#lists = new Counter({
      name: 'internvl_operator_lists_total',
      help: 'Lists of watched kinds, by outcome',
      labelNames: ['resource', 'outcome'],
      registers,
    });
    this.#watches = new Counter({
      name: 'internvl_operator_watches_total',
      help: 'Watches that ended, by how',
      labelNames: ['resource', 'outcome'],
      registers,
    });
    this.#groupRestarts = new Counter({
      name: 'internvl_operator_group_restarts_total',
      help: 'Groups that were started again after a failure',
      registers,
    });
    this.#coldStart = new Histogram({
      name: 'internvl_operator_cold_start_seconds',
      help: 'Time a group took for each phase of its start, told when it became ready',
      labelNames: ['phase'],
      buckets: COLD_START_BUCKETS,
      registers,
    });
    for (const phase of Object.keys(PHASES)) this.#coldStart.zero({ phase });
    this.#domainGauges(source);
  }

  readonly leading: (leading: boolean) => void;

  /** For ApiClient. */
  readonly onRequest = (verb: Verb, resource: Resource, code: number, seconds: number): void => {
    this.#requests.inc({
      code: code === 0 ? '<error>' : String(code),
      method: verb,
      resource: resource.plural,
    });
    this.#requestSeconds.observe({ verb }, seconds);
  };

  reflector(resource: Resource): ReflectorObserver {
    return {
      listed: (outcome) => this.#lists.inc({ resource: resource.plural, outcome }),
      watched: (outcome) => this.#watches.inc({ resource: resource.plural, outcome }),
    };
  }

  /** Counts what happened between two statuses of one deployment. */
  readonly onStatus = (before: Status, after: Status): void => {
    const known = new Map(groupsOf(before).map((group) => [group.name, group]));
    for (const group of groupsOf(after)) {
      const old = known.get(group.name);
      const restarts = (group.restarts ?? 0) - (old?.restarts ?? 0);
      if (restarts > 0) this.#groupRestarts.inc(restarts);
      if (group.phase !== 'Ready' || old?.phase === 'Ready') continue;
      for (const [phase, field] of Object.entries(PHASES)) {
        const seconds = group.coldStart?.[field];
        if (seconds !== undefined) this.#coldStart.observe({ phase }, seconds);
      }
    }
  };

  #scraped(name: string, help: string, labels: Record<string, string>, read: () => number): void {
    void new Gauge({
      name,
      help,
      labelNames: Object.keys(labels),
      registers: [this.registry],
      collect() {
        this.set(labels, read());
      },
    });
  }

  #domainGauges(source: () => MetricsSource): void {
    const registers = [this.registry];
    void new Gauge({
      name: 'internvl_operator_deployments',
      help: 'Deployments by condition and its status',
      labelNames: ['condition', 'status'],
      registers,
      collect() {
        this.reset();
        for (const condition of Object.values(CONDITIONS))
          for (const status of ['True', 'False', 'Unknown']) this.set({ condition, status }, 0);
        for (const told of source().statuses())
          for (const { type, status } of conditionsOf(told)) this.inc({ condition: type, status });
      },
    });
    void new Gauge({
      name: 'internvl_operator_groups',
      help: 'Tensor-parallel groups by phase',
      labelNames: ['phase'],
      registers,
      collect() {
        this.reset();
        this.set({ phase: 'Ready' }, 0);
        for (const told of source().statuses())
          for (const { phase = 'Unknown' } of groupsOf(told)) this.inc({ phase });
      },
    });
    void new Gauge({
      name: 'internvl_operator_rollouts_in_progress',
      help: 'Deployments that are on their way to what their spec asks for',
      registers,
      collect() {
        let count = 0;
        for (const told of source().statuses()) if (isRollingOut(told)) count += 1;
        this.set(count);
      },
    });
    void new Gauge({
      name: 'internvl_operator_store_synced',
      help: '1 when all objects of a kind are known',
      labelNames: ['resource'],
      registers,
      collect() {
        this.reset();
        for (const resource of source().synced) this.set({ resource }, 1);
        for (const resource of source().unsynced) this.set({ resource }, 0);
      },
    });
  }
}

function conditionsOf(status: Status): readonly { readonly type: string; readonly status: string }[] {
  return (
    (status as { conditions?: readonly { type: string; status: string }[] } | undefined)?.conditions ?? []
  );
}

function groupsOf(status: Status): readonly ToldGroup[] {
  return (status as { groups?: readonly ToldGroup[] } | undefined)?.groups ?? [];
}

/** Not all groups are of the revision that is wanted. */
function isRollingOut(status: Status): boolean {
  const { replicas = 0, updatedReplicas = 0 } = status ?? {};
  return updatedReplicas < replicas;
}
