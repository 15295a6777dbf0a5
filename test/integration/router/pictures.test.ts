import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { parseDetails } from '../../../rpc/status.ts';
import { ask, Harness, until, type Setup } from './harness.ts';

let harness: Harness | undefined;
async function start(setup: Setup): Promise<Harness> {
  harness = await Harness.start(setup);
  harness.forgetProbes();
  return harness;
}
afterEach(async () => {
  await harness?.close();
  harness = undefined;
});

const PICTURE = readFileSync(fileURLToPath(new URL('../../fixtures/images/p2_scene.jpg', import.meta.url)));
const HASH = createHash('sha256').update(PICTURE).digest('hex');
const LARGE = Buffer.alloc(3 << 20, 7);

describe('a picture', () => {
  it('goes to a replica once, however many concurrent and later requests have it', async () => {
    const h = await start({ replicas: [{}] });
    const [replica] = h.replicas;
    const question = ask({ images: [{ $case: 'data', value: PICTURE }] });
    const streams = await Promise.all(Array.from({ length: 10 }, () => h.generate(question).end()));
    for (const stream of streams) expect(stream.error).toBeUndefined();
    expect((await h.generate(question).end()).error).toBeUndefined();
    expect(replica!.puts).toEqual([HASH]);
    const { images, tokenIds } = replica!.submits[0]!;
    expect(images.map(({ hash }) => hash.toString('hex'))).toEqual([HASH]);
    const [{ offset, length }] = images as [(typeof images)[number]];
    const imageToken = replica!.info().imageTokenId;
    expect(length).toBe(256);
    expect(tokenIds.slice(offset, offset + length).every((id) => id === imageToken)).toBe(true);
    expect(streams[0]!.started).toMatchObject({ imageTokens: 256 });
    const metric = await h.router.metrics.registry.getSingleMetricAsString(
      'internvl_router_image_bytes_sent_total',
    );
    expect(metric).toContain(`internvl_router_image_bytes_sent_total ${PICTURE.length}`);
  });

  it('larger than a chunk arrives whole', async () => {
    const h = await start({ replicas: [{}] });
    const stream = await h.generate(ask({ images: [{ $case: 'data', value: LARGE }] })).end();
    expect(stream.error).toBeUndefined();
    expect(h.replicas[0]!.puts).toEqual([createHash('sha256').update(LARGE).digest('hex')]);
  });

  it('is sent again when the replica asks for it', async () => {
    const h = await start({ replicas: [{}] });
    const [replica] = h.replicas;
    const question = ask({ images: [{ $case: 'data', value: PICTURE }] });
    await h.generate(question).end();
    replica!.forgetImages();
    expect((await h.generate(question).end()).error).toBeUndefined();
    expect(replica!.puts).toEqual([HASH, HASH]);
  });

  it('can be named by its hash later, also on another replica', async () => {
    const h = await start({ replicas: [{}, {}] });
    await h.generate(ask({ images: [{ $case: 'data', value: PICTURE }] })).end();
    const holder = h.replicas.find((replica) => replica.puts.length > 0)!;
    await holder.kill();
    await h.ready(1);
    const stream = await h.generate(ask({ images: [{ $case: 'hash', value: HASH }] })).end();
    expect(stream.error).toBeUndefined();
    expect(h.replicas.find((replica) => replica !== holder)!.puts).toEqual([HASH]);
  });

  it('draws its later requests to the replica that holds it', async () => {
    const h = await start({ replicas: [{}, {}, {}, {}] });
    const question = ask({ images: [{ $case: 'data', value: PICTURE }] });
    for (let turn = 0; turn < 12; turn++) await h.generate(question).end();
    expect(h.replicas.flatMap((replica) => replica.puts)).toEqual([HASH]);
  });

  it('comes as a data: URL', async () => {
    const h = await start({ replicas: [{}] });
    const value = `data:image/jpeg;base64,${PICTURE.toString('base64')}`;
    expect((await h.generate(ask({ images: [{ $case: 'url', value }] })).end()).error).toBeUndefined();
    expect(h.replicas[0]!.puts).toEqual([HASH]);
  });
});

describe('a picture that cannot be used', () => {
  it.each([
    [
      'an unknown hash',
      { $case: 'hash' as const, value: 'a'.repeat(64) },
      status.NOT_FOUND,
      'IMAGE_NOT_FOUND',
    ],
    [
      'a hash that is none',
      { $case: 'hash' as const, value: 'xyz' },
      status.INVALID_ARGUMENT,
      'INVALID_FIELD',
    ],
    [
      'an http URL',
      { $case: 'url' as const, value: 'https://example.com/a.png' },
      status.INVALID_ARGUMENT,
      'IMAGE_URL_SCHEME',
    ],
    [
      'a file URL',
      { $case: 'url' as const, value: 'file:///etc/passwd' },
      status.INVALID_ARGUMENT,
      'IMAGE_URL_SCHEME',
    ],
    [
      'an empty file',
      { $case: 'data' as const, value: Buffer.alloc(0) },
      status.INVALID_ARGUMENT,
      'EMPTY_IMAGE',
    ],
    [
      'a file over the limit',
      { $case: 'data' as const, value: Buffer.alloc((20 << 20) + 1) },
      status.INVALID_ARGUMENT,
      'IMAGE_TOO_LARGE',
    ],
  ])('%s is refused, and nothing is sent', async (_, source, code, reason) => {
    const h = await start({ replicas: [{}] });
    const stream = await h.generate(ask({ images: [source] })).end();
    expect(stream.error?.code).toBe(code);
    expect(stream.reason).toBe(reason);
    expect(h.replicas[0]!.submits).toHaveLength(0);
    expect(h.replicas[0]!.puts).toHaveLength(0);
  });

  it('is refused by the replica that decodes it, without a retry, and disturbs nobody', async () => {
    const h = await start({ replicas: [{}, {}] });
    for (const replica of h.replicas) replica.refuseImages = 'not a picture: the file ends after 12 bytes';
    const stream = await h
      .generate(ask({ images: [{ $case: 'data', value: Buffer.from('no picture') }] }))
      .end();
    expect(stream.error).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(stream.error!.details).toContain('the file ends after 12 bytes');
    expect(stream.reason).toBe('INVALID_IMAGE');
    expect(h.replicas.flatMap((replica) => replica.submits)).toHaveLength(0);
    expect((await h.generate(ask()).end()).error).toBeUndefined();
  });

  it('of 64 MB is refused, naming the limit', async () => {
    const h = await start({ replicas: [{}] });
    const huge = Buffer.alloc(64 << 20, 1);
    const stream = await h.generate(ask({ images: [{ $case: 'data', value: huge }] })).end();
    expect(stream.error?.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(stream.error!.details).toContain('33554432');
    expect((await h.generate(ask()).end()).error).toBeUndefined();
  });

  it('of 64 MB is refused by the size it announces, before any of it is read', async () => {
    const h = await start({ replicas: [{}] });
    const session = connect(`http://${h.address}`);
    const call = session.request({
      ':method': 'POST',
      ':path': '/internvl.v1.Inference/Generate',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(64 << 20, 1);
    call.write(prefix); // and not a byte of the message
    const headers = await new Promise<Record<string, unknown>>((resolve, reject) => {
      call.on('response', (response) => {
        if (response['grpc-status'] !== undefined) resolve(response);
      });
      call.on('trailers', resolve);
      call.on('error', reject);
      call.resume();
    });
    expect(headers['grpc-status']).toBe(String(status.RESOURCE_EXHAUSTED));
    session.destroy();
  });

  it('is one too many', async () => {
    const h = await start({ replicas: [{}], flags: ['--max-images', '2'] });
    const images = Array.from({ length: 3 }, () => ({ $case: 'data' as const, value: PICTURE }));
    const stream = await h.generate(ask({ images })).end();
    expect(parseDetails(stream.error)).toMatchObject({
      reason: 'TOO_MANY_IMAGES',
      metadata: { value: '3', limit: '2' },
    });
  });

  it('leaves nothing pinned: the memory set aside for pictures is free again', async () => {
    const h = await start({ replicas: [{}], flags: ['--queue-max-bytes', String(4 << 20)] });
    const two = ask({
      images: [
        { $case: 'data', value: LARGE },
        { $case: 'data', value: Buffer.alloc(3 << 20, 8) },
      ],
    });
    const refused = await h.generate(two).end();
    expect(refused.reason).toBe('QUEUE_FULL');
    // One alone fits, again and again.
    for (let turn = 0; turn < 3; turn++) {
      expect(
        (await h.generate(ask({ images: [{ $case: 'data', value: Buffer.alloc(3 << 20, turn) }] })).end())
          .error,
      ).toBeUndefined();
    }
    await until(() => h.router.live === 0);
  });
});
