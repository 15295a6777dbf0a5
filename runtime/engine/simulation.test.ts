import { describe, expect, it } from 'vitest';

import { SimulationError, parseSimulation } from './simulation.ts';

describe('parseSimulation', () => {
  it('fills in what is absent', () => {
    expect(parseSimulation({ kvBlocks: 10, failAfterSteps: 3 })).toMatchObject({
      kvBlocks: 10,
      failAfterSteps: 3,
      stallAfterSteps: undefined,
      speed: 1,
      rejectRate: 0,
    });
  });

  it.each<[unknown, RegExp]>([
    [[], /must be an object/],
    [null, /must be an object/],
    [{ kvBlock: 1 }, /kvBlock is not an option/],
    [{ kvBlocks: 0 }, /kvBlocks must be a whole number of at least 1/],
    [{ stepUs: '5' }, /stepUs must be a number of at least 0/],
    [{ speed: 0 }, /speed must be a number above 0/],
    [{ rejectRate: 2 }, /rejectRate must be a number from 0 to 1/],
    [{ tokenIds: [] }, /tokenIds must be a list/],
    [{ failAfterSteps: -1 }, /failAfterSteps must be a whole number/],
    [{ kvBlocks: 0, speed: -1 }, /kvBlocks .*; speed/],
    [{ vocabSize: 50 }, /token 100 is outside vocabSize, 50/],
    [{ tokenIds: [7], stopTokenId: 7 }, /tokenIds has the stopTokenId/],
    [{ minAnswerTokens: 9, maxAnswerTokens: 3 }, /minAnswerTokens is above/],
    [{ maxBatchedTokens: 3 }, /maxBatchedTokens is below maxSequences/],
  ])('refuses %j', (json, message) => {
    expect(() => parseSimulation(json)).toThrow(SimulationError);
    expect(() => parseSimulation(json)).toThrow(message);
  });
});
