// Requests that cannot work, sent to a served model: each is refused with a word on what is wrong, while another request goes on.

import { connect as connectTcp } from 'node:net';
import { crc32, deflateSync } from 'node:zlib';
import { Client, credentials, status, type ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  GenerateRequest,
  InferenceService,
  Role,
  type Message,
} from '../../../gen/proto/internvl/v1/inference.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { Served, picturePart, request, type Question } from '../../support/served.ts';
import { goldenAnswer, pictureFile, requestOf } from '../../support/served-golden.ts';

const MIB = 2 ** 20;
const bystander = goldenAnswer('tiny', 'img_p1_what');
const png = pictureFile('p1_shapes.png');
const jpeg = pictureFile('p2_scene.jpg');

let served: Served;

beforeAll(async () => {
  served = await Served.start({ checkpoint: 'tiny', tensorParallelSize: 2 });
});

afterAll(async () => {
  expect(await served?.stop()).toEqual({ code: 0, left: [] });
});

/** Runs `act` while an answer is under way, which must come out as ever. */
async function undisturbed<T>(act: () => Promise<T>): Promise<T> {
  const call = await served.generate(requestOf(bystander)).tokens(1);
  const result = await act();
  await call.ended;
  expect(call.error).toBeUndefined();
  expect(call.tokenIds).toEqual(bystander.tokenIds);
  return result;
}

/** A PNG of the given size whose pixels are all there: few bytes, many pixels. */
function flatPng(width: number, height: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([1, 0, 0, 0, 0], 8); // one bit of grey
  const rows = Buffer.alloc(height * (1 + Math.ceil(width / 8)));
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

const user = (...parts: Message['parts']): Message => ({ role: Role.USER, parts });
const text = (value: string): Message['parts'][number] => ({ part: { $case: 'text', value } });

const BAD: readonly (readonly [string, Question, status, string, RegExp])[] = [
  [
    'a truncated PNG',
    { text: 'x', pictures: [png.subarray(0, png.length / 2)] },
    status.INVALID_ARGUMENT,
    'IMAGE_CORRUPT',
    /PNG picture is truncated or corrupt/,
  ],
  [
    'a truncated JPEG',
    { text: 'x', pictures: [jpeg.subarray(0, jpeg.length / 2)] },
    status.INVALID_ARGUMENT,
    'IMAGE_CORRUPT',
    /JPEG picture is truncated or corrupt/,
  ],
  [
    'a PNG with a wrong byte',
    { text: 'x', pictures: [Buffer.from(png.map((byte, at) => (at === 5000 ? byte ^ 0xff : byte)))] },
    status.INVALID_ARGUMENT,
    'IMAGE_CORRUPT',
    /PNG picture is truncated or corrupt/,
  ],
  [
    'a picture of too many pixels in few bytes',
    { text: 'x', pictures: [flatPng(20_000, 20_000)] },
    status.INVALID_ARGUMENT,
    'IMAGE_TOO_LARGE',
    /20000x20000 = 400000000 pixels; at most 64000000/,
  ],
  [
    'a file that is no picture',
    { text: 'x', pictures: [Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')] },
    status.INVALID_ARGUMENT,
    'IMAGE_UNSUPPORTED',
    /supported are JPEG, PNG, WebP, GIF, BMP, TIFF/,
  ],
  [
    'an empty file',
    { text: 'x', pictures: [Buffer.alloc(0)] },
    status.INVALID_ARGUMENT,
    'EMPTY_IMAGE',
    /messages\[0\]\.parts\[0\]\.image is an empty file/,
  ],
  [
    'a file over the size limit',
    { text: 'x', pictures: [Buffer.alloc(21 * MIB)] },
    status.INVALID_ARGUMENT,
    'IMAGE_TOO_LARGE',
    /a file of 22020096 bytes; at most 20971520/,
  ],
  [
    'one picture too many',
    { text: 'x', pictures: [png, png, png, png, png] },
    status.INVALID_ARGUMENT,
    'TOO_MANY_IMAGES',
    /5 pictures; at most 4/,
  ],
  [
    'a picture that is somewhere else',
    { messages: [user(picturePart({ $case: 'url', value: 'http://example.com/a.png' }), text('x'))] },
    status.INVALID_ARGUMENT,
    'IMAGE_URL_SCHEME',
    /scheme 'http'/,
  ],
  ['an empty prompt', { text: '' }, status.INVALID_ARGUMENT, 'EMPTY_MESSAGE', /messages\[0\] is empty/],
  ['no messages', { messages: [] }, status.INVALID_ARGUMENT, 'INVALID_FIELD', /messages is empty/],
  [
    'more tokens than the context holds',
    { text: 'Hi', sampling: { maxTokens: 4096 } },
    status.INVALID_ARGUMENT,
    'PROMPT_TOO_LONG',
    /prompt's \d+ tokens and sampling\.max_tokens 4096 make \d+, more than the context of 4096 tokens/,
  ],
  [
    'a prompt longer than the context',
    { text: 'no end of words '.repeat(2000) },
    status.INVALID_ARGUMENT,
    'PROMPT_TOO_LONG',
    /the prompt has \d+ tokens.*context of 4096/,
  ],
  [
    'a temperature below 0',
    { text: 'x', sampling: { temperature: -1 } },
    status.INVALID_ARGUMENT,
    'INVALID_FIELD',
    /sampling\.temperature is -1/,
  ],
  [
    'a temperature that is no number',
    { text: 'x', sampling: { temperature: NaN } },
    status.INVALID_ARGUMENT,
    'INVALID_FIELD',
    /sampling\.temperature is NaN/,
  ],
  [
    'a temperature without bounds',
    { text: 'x', sampling: { temperature: Infinity } },
    status.INVALID_ARGUMENT,
    'INVALID_FIELD',
    /sampling\.temperature is Infinity/,
  ],
  [
    'a top_p of 0',
    { text: 'x', sampling: { topP: 0 } },
    status.INVALID_ARGUMENT,
    'INVALID_FIELD',
    /sampling\.top_p is 0/,
  ],
  [
    'a repetition penalty of 0',
    { text: 'x', sampling: { repetitionPenalty: 0 } },
    status.INVALID_ARGUMENT,
    'INVALID_FIELD',
    /sampling\.repetition_penalty is 0/,
  ],
  [
    'a stop token outside the vocabulary',
    { text: 'x', sampling: { stopTokenIds: [1009] } },
    status.INVALID_ARGUMENT,
    'INVALID_FIELD',
    /stop_token_ids\[0\] is 1009; the vocabulary has 1009/,
  ],
  [
    'too many log-probabilities',
    { text: 'x', logprobs: 21 },
    status.INVALID_ARGUMENT,
    'INVALID_FIELD',
    /output\.logprobs is 21; at most 20/,
  ],
  [
    'a model that is not served',
    { text: 'x', model: 'gpt' },
    status.NOT_FOUND,
    'MODEL_NOT_FOUND',
    /no model 'gpt' here: this server serves 'served'/,
  ],
];

describe('a request with', () => {
  it.each(BAD)('%s is refused', async (_, question, code, reason, message) => {
    const call = await undisturbed(() => served.generate(request(question)).ended);
    expect({ code: call.error?.code, reason: call.reason }).toEqual({ code, reason });
    expect(call.error?.details).toMatch(message);
    expect(call.tokenIds).toEqual([]);
  });
});

describe('bytes that', () => {
  const send = (bytes: Buffer): Promise<ServiceError> =>
    undisturbed(
      () =>
        new Promise((resolve, reject) => {
          const { path } = InferenceService.generateOnce;
          const client = new Client(served.endpoints.grpc, credentials.createInsecure(), {
            'grpc.max_send_message_length': -1,
          });
          client.makeUnaryRequest(
            path,
            (sent: Buffer) => sent,
            (got) => got,
            bytes,
            (error) => {
              client.close();
              if (error === null) reject(new Error('it was answered'));
              else resolve(error);
            },
          );
        }),
    );

  it('are no protobuf', async () => {
    const error = await send(Buffer.from([0xff, 0xff, 0xff, 0xff]));
    expect([error.code, parseDetails(error).reason]).toEqual([status.INVALID_ARGUMENT, 'MALFORMED_MESSAGE']);
  });

  it('hold invalid UTF-8 in a string', async () => {
    const good = Buffer.from(GenerateRequest.encode(request({ text: 'UTF8UTF8' })).finish());
    const at = good.indexOf('UTF8UTF8');
    const error = await send(
      Buffer.concat([good.subarray(0, at), Buffer.alloc(8, 0xff), good.subarray(at + 8)]),
    );
    expect(error.code).toBe(status.INVALID_ARGUMENT);
    expect(error.details).toMatch(/GenerateOnce is not valid protobuf.*utf-8/);
  });

  it('are more than a message may have', async () => {
    const error = await send(
      Buffer.from(
        GenerateRequest.encode(request({ text: 'x', pictures: [Buffer.alloc(64 * MIB)] })).finish(),
      ),
    );
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(error.details).toMatch(/6710\d{4}.*33554432|33554432.*6710\d{4}/);
  });

  it('are no HTTP/2', async () => {
    await undisturbed(
      () =>
        new Promise<void>((resolve, reject) => {
          const [host = '', port = ''] = served.endpoints.grpc.split(':');
          const socket = connectTcp(Number(port), host, () =>
            socket.end('GET / HTTP/1.1\r\n\r\n'.repeat(100)),
          );
          socket
            .on('error', reject)
            .on('close', () => resolve())
            .resume();
        }),
    );
  });
});

it('still serves, holds nothing back, and was never restarted', async () => {
  await served.idle();
  expect(served.output).not.toContain('starting it again');
});
