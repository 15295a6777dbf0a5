// PutImage: pictures that come in pieces, and the requests that name them.

import { createHash, randomBytes } from 'node:crypto';
import { status, type ServiceError } from '@grpc/grpc-js';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  InferenceService,
  type PutImageRequest,
  type PutImageResponse,
} from '../../../gen/proto/internvl/v1/inference.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { CHUNK_BYTES } from '../../../router/picture-file.ts';
import { uploadPicture } from '../../../cli/upload.ts';
import { ask, Harness, type Setup } from './harness.ts';

let harness: Harness | undefined;
async function start(setup: Partial<Setup> = {}): Promise<Harness> {
  harness = await Harness.start({ replicas: [{}], ...setup });
  return harness;
}
afterEach(async () => {
  vi.restoreAllMocks();
  await harness?.close();
  harness = undefined;
});

const hashOf = (file: Uint8Array): string => createHash('sha256').update(file).digest('hex');

/** An upload message by message. */
class Upload {
  readonly answer: Promise<PutImageResponse>;
  readonly send: (message: Partial<PutImageRequest>) => void;
  readonly end: () => void;
  readonly cancel: () => void;

  constructor(h: Harness) {
    let settle!: (error: ServiceError | null, response?: PutImageResponse) => void;
    this.answer = new Promise((resolve, reject) => {
      settle = (error, response) => (error === null ? resolve(response!) : reject(error));
    });
    this.answer.catch(() => undefined);
    const call = h.client.putImage(settle);
    call.on('error', () => undefined);
    this.send = (message) => void call.write({ sizeBytes: 0, chunk: Buffer.alloc(0), ...message });
    this.end = () => void call.end();
    this.cancel = () => call.cancel();
  }

  async refused(): Promise<{ code: number; reason: string | undefined; details: string }> {
    const error = await this.answer.then(
      () => {
        throw new Error('the upload was taken');
      },
      (err: unknown) => err as ServiceError,
    );
    return { code: error.code, reason: parseDetails(error).reason, details: error.details };
  }
}

/** For a condition that holds soon. */
const WAIT = { timeout: 20_000, interval: 10 };

const named = (hash: string) => ask({ images: [{ $case: 'hash', value: hash }] });

describe('an uploaded picture', () => {
  it.each([1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3_000_001])(
    'of %i bytes reaches the replica whole when a request names it',
    async (bytes) => {
      const h = await start();
      const file = randomBytes(bytes);
      const hash = await uploadPicture(h.client, file);
      expect(hash).toBe(hashOf(file));
      expect(h.replicas[0]!.puts).toEqual([]);
      const stream = await h.generate(named(hash)).end();
      expect(stream.error).toBeUndefined();
      expect(stream.finished!.usage!.imageTokens).toBe(256);
      // The replica compares the hash of what came.
      expect(h.replicas[0]!.puts).toEqual([hash]);
    },
  );

  it('may be cut in any way', async () => {
    const h = await start();
    const file = randomBytes(700_000);
    const upload = new Upload(h);
    upload.send({ sizeBytes: file.length });
    let cut = 0;
    for (const length of [1, 99_999, 0, 200_000, 7, CHUNK_BYTES, 700_000]) {
      upload.send({ chunk: file.subarray(cut, Math.min(cut + length, cut + CHUNK_BYTES)) });
      cut += Math.min(length, CHUNK_BYTES, file.length - cut);
    }
    upload.end();
    expect(await upload.answer).toEqual({ hash: hashOf(file), heldMs: 30_000 });
  });

  it('is never joined: nothing as large as it is allocated on its way', async () => {
    const h = await start();
    const file = randomBytes(8 << 20);
    const sizes: number[] = [];
    for (const how of ['allocUnsafe', 'allocUnsafeSlow', 'alloc'] as const) {
      const allocate = Buffer[how].bind(Buffer);
      vi.spyOn(Buffer, how).mockImplementation((size: number) => {
        sizes.push(size);
        return allocate(size);
      });
    }
    vi.spyOn(Buffer, 'concat').mockImplementation((list, length) => {
      sizes.push(length ?? list.reduce((sum, part) => sum + part.length, 0));
      const joined = Buffer.from(new ArrayBuffer(sizes.at(-1)!));
      let at = 0;
      for (const part of list) {
        joined.set(part, at);
        at += part.length;
      }
      return joined;
    });
    const hash = await uploadPicture(h.client, file);
    expect((await h.generate(named(hash)).end()).error).toBeUndefined();
    // A chunk and what stands before it in its message and its frame.
    expect(Math.max(...sizes)).toBeGreaterThanOrEqual(CHUNK_BYTES);
    expect(Math.max(...sizes)).toBeLessThan(CHUNK_BYTES + 128);
  });

  it('that no request names in time is let go, and can still be named while there is room', async () => {
    const h = await start({
      flags: ['--queue-max-bytes', String(4 << 20)],
      dependencies: { uploads: { heldMs: 300 } },
    });
    const [first, second] = [randomBytes(2 << 20), randomBytes(2 << 20)];
    const hash = await uploadPicture(h.client, first);
    // Half of the memory is for uploads: the second one finds room once the first has been let go.
    await vi.waitFor(() => uploadPicture(h.client, second), WAIT);
    expect((await h.generate(named(hash)).end()).error).toBeUndefined();
  });

  it('does not count against later uploads once a request has named it', async () => {
    const h = await start({ flags: ['--queue-max-bytes', String(4 << 20)] });
    for (let turn = 0; turn < 4; turn++) {
      const hash = await uploadPicture(h.client, randomBytes(2 << 20));
      expect((await h.generate(named(hash)).end()).error).toBeUndefined();
    }
  });
});

describe('an upload is refused', () => {
  const LIMIT = 20 << 20;
  const piece = Buffer.alloc(1000, 1);
  it.each<[string, readonly Partial<PutImageRequest>[], number, string, string]>([
    [
      'without a size',
      [{ chunk: piece }],
      status.INVALID_ARGUMENT,
      'EMPTY_IMAGE',
      'the picture is an empty file',
    ],
    [
      'above the limit',
      [{ sizeBytes: LIMIT + 1 }],
      status.INVALID_ARGUMENT,
      'IMAGE_TOO_LARGE',
      String(LIMIT),
    ],
    [
      'with a piece that is too large',
      [{ sizeBytes: LIMIT, chunk: Buffer.alloc(CHUNK_BYTES + 1) }],
      status.INVALID_ARGUMENT,
      'CHUNK_TOO_LARGE',
      String(CHUNK_BYTES),
    ],
    [
      'with more than was announced',
      [{ sizeBytes: 1500, chunk: piece }, { chunk: piece }],
      status.INVALID_ARGUMENT,
      'IMAGE_SIZE_MISMATCH',
      'more than the 1500 bytes announced came',
    ],
    [
      'with less than was announced',
      [{ sizeBytes: 1500, chunk: piece }],
      status.INVALID_ARGUMENT,
      'IMAGE_SIZE_MISMATCH',
      '1000 of the 1500 bytes',
    ],
    ['without a message', [], status.INVALID_ARGUMENT, 'IMAGE_SIZE_MISMATCH', 'before its first message'],
  ])('%s, and its room is free again', async (_, messages, code, reason, details) => {
    const h = await start({ flags: ['--queue-max-bytes', String(2 * LIMIT)] });
    const upload = new Upload(h);
    for (const message of messages) upload.send(message);
    upload.end();
    const refusal = await upload.refused();
    expect(refusal).toMatchObject({ code, reason });
    expect(refusal.details).toContain(details);
    // All of the room that uploads have.
    await uploadPicture(h.client, Buffer.alloc(LIMIT));
  });

  it('when it is too slow, cancelled, or past its deadline, and its room is free again', async () => {
    const half = 1 << 20;
    const h = await start({
      flags: ['--queue-max-bytes', String(2 * half)],
      dependencies: { uploads: { receiveMs: 200 } },
    });
    const slow = new Upload(h);
    slow.send({ sizeBytes: half });
    expect(await slow.refused()).toMatchObject({ code: status.DEADLINE_EXCEEDED, reason: 'UPLOAD_TOO_SLOW' });
    const left = new Upload(h);
    left.send({ sizeBytes: half });
    await vi.waitFor(
      () => expect(uploadPicture(h.client, Buffer.alloc(1))).rejects.toThrow('there is no room'),
      WAIT,
    );
    left.cancel();
    expect(await left.refused()).toMatchObject({ code: status.CANCELLED });
    await vi.waitFor(() => uploadPicture(h.client, Buffer.alloc(half)), WAIT);
  });

  it('when a message is no protobuf; other calls go on', async () => {
    const h = await start();
    const stream = h.generate(ask({ sampling: { maxTokens: 50, ignoreEos: true } }));
    const { path, responseDeserialize } = InferenceService.putImage;
    const error = await new Promise<ServiceError | null>((resolve) => {
      const call = h.client.makeClientStreamRequest(
        path,
        (bytes: Buffer) => bytes,
        responseDeserialize,
        (err) => resolve(err),
      );
      call.on('error', () => undefined);
      call.write(Buffer.from('GET / HTTP/1.1'));
      call.end();
    });
    expect(parseDetails(error!)).toMatchObject({ reason: 'MALFORMED_MESSAGE' });
    expect((await stream.end()).finished!.usage!.completionTokens).toBe(50);
  });
});
