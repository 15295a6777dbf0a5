// The cluster with our images, the deployment on it and the traffic that goes on through all steps.

import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { command } from '../support/control-plane.ts';
import { summary, Traffic, type TrafficQuestion } from '../support/traffic.ts';
import { Demo } from './demo.ts';
import { Kubernetes } from './kubernetes.ts';
import { Lab, ROOT } from './lab.ts';

const PICTURE = join(ROOT, 'examples/pictures/shapes.png');
const ARCHIVES = ['operator', 'runtime'].map((name) => join(ROOT, 'build/images', `${name}.tar`));
export const SERVICE = 'demo-router.default.svc.cluster.local:50051';

/** What the demo model answers about examples/pictures/shapes.png; the long one shows answers that are cut short. */
export const QUESTIONS: readonly TrafficQuestion[] = [
  { text: 'How many shapes are there?', answer: 'Four.', picture: PICTURE },
  { text: 'Where is the star?', answer: 'Bottom left.', picture: PICTURE },
  {
    text: 'What do you see?',
    answer: 'An orange circle, a green square, a yellow star and a black circle.',
    picture: PICTURE,
    tokens: 64,
  },
  { text: 'What is in the top right?', answer: 'A green square.', picture: PICTURE },
];

/** A person wants to look around after a failure: the cluster stays. */
export const KEEP = process.env['INTERNVL_E2E_KEEP'] === '1';

export class World {
  readonly directory: string;
  readonly lab: Lab;
  readonly kubernetes: Kubernetes;
  readonly demo: Demo;
  #traffic: Traffic | undefined;
  #mark = 'start';

  private constructor(directory: string) {
    this.directory = directory;
    this.lab = new Lab(join(directory, 'cluster'), {
      // Whatever becomes of this process, the cluster ends with it.
      ...(!KEEP && { OWNER_PID: String(process.pid) }),
      NODE_NAMES: 'node-a node-b',
      GPUS: '2',
      // A router or operator pod of a lost node is replaced after so long, not after five minutes.
      TOLERATION_SECONDS: '5',
      NODE_FILES: join(directory, 'files'),
      CONTROLLER_MANAGER_ARGS: '--horizontal-pod-autoscaler-sync-period=2s',
    });
    this.kubernetes = new Kubernetes(this.lab);
    this.demo = new Demo(this.kubernetes);
  }

  /** Starts the cluster with the demo checkpoint on its nodes and our images in them. */
  static async start(): Promise<World> {
    const directory = await mkdtemp(join(tmpdir(), 'internvl-e2e-'));
    const world = new World(directory);
    try {
      const models = join(directory, 'files/internvl');
      await mkdir(models, { recursive: true });
      await cp(join(ROOT, 'examples/demo-model'), join(models, 'demo-model'), { recursive: true });
      await Promise.all([world.lab.up(), buildImages()]);
      await world.lab.loadImages(ARCHIVES);
      return world;
    } catch (error) {
      await world.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.#traffic?.stop();
    await this.lab.down();
    await rm(this.directory, { recursive: true, force: true });
  }

  get traffic(): Traffic {
    if (this.#traffic === undefined) throw new Error('no traffic has been started');
    return this.#traffic;
  }

  /** Asks through the Service from now on, until `stopTraffic`. */
  async startTraffic(): Promise<void> {
    const questions = join(this.directory, 'questions.json');
    await writeFile(questions, JSON.stringify(QUESTIONS));
    const driver = join(ROOT, 'test/support/traffic-driver.ts');
    this.#traffic = new Traffic(
      this.lab.start(process.execPath, [driver, '--target', SERVICE, '--questions', questions]),
    );
    this.#traffic.mark(this.#mark);
    await this.#traffic.rightAnswers(QUESTIONS.length);
  }

  async stopTraffic(): Promise<void> {
    await this.#traffic?.stop();
  }

  mark(name: string): void {
    this.#mark = name;
    this.#traffic?.mark(name);
  }

  /** Waits for the step's requests to end, and for some more answers, and demands that all were right; `least` guards against no traffic at all. */
  async expectNoFailure(mark: string, least = 5): Promise<void> {
    await this.traffic.rightAnswers(Math.max(least, QUESTIONS.length));
    await this.traffic.settled();
    const report = this.traffic.report(mark);
    expect(report.failed, summary(report)).toEqual([]);
    expect(report.requests).toBeGreaterThanOrEqual(least);
  }

  /** Runs lines of shell in the lab, in the clone, with our command line at hand. */
  async shell(lines: string, timeoutMs = 180_000): Promise<string> {
    const script = `set -euo pipefail; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT; cd '${ROOT}'; export PATH='${ROOT}bin':$PATH\n${lines}\n`;
    return await this.lab.run('bash', ['-c', script], { timeoutMs });
  }

  async picture(): Promise<Buffer> {
    return await readFile(PICTURE);
  }
}

/** The images of this clone as it is; seconds where they are up to date. */
async function buildImages(): Promise<void> {
  await command('bash', [join(ROOT, 'scripts/build-images.sh'), '--local']);
}
