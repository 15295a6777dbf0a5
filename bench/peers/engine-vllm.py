"""vLLM's CPU backend behind the protocol of engine-process.ts: whole steps of its engine, scheduling and greedy sampling included."""

import json
import os
import sys
import tempfile
import time

MAX_SECONDS = 4  # as engine-process.ts


class Engine:
    def load(self, shape, dtype, threads, **_):
        # Read when it is imported. One process, so that a step is a call; threads are not tied to cores, as those of the others are not.
        os.environ.update(
            OMP_NUM_THREADS=str(threads),
            VLLM_CPU_OMP_THREADS_BIND="nobind",
            VLLM_CPU_KVCACHE_SPACE="2",
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
            VLLM_LOGGING_LEVEL="ERROR",
            VLLM_NO_USAGE_STATS="1",
            HF_HUB_OFFLINE="1",
        )
        import vllm

        llm = shape["llm_config"]
        config = {**llm, "model_type": "llama", "torch_dtype": dtype, "head_dim": llm["hidden_size"] // llm["num_attention_heads"]}
        self.folder = tempfile.TemporaryDirectory(prefix="internvl-vllm-")
        with open(os.path.join(self.folder.name, "config.json"), "w") as file:
            json.dump(config, file)
        # A prompt of any length measured here is one step.
        self.engine = vllm.LLM(
            model=self.folder.name,
            load_format="dummy",
            dtype=dtype,
            skip_tokenizer_init=True,
            enforce_eager=True,
            enable_prefix_caching=False,
            max_model_len=4096,
            max_num_batched_tokens=4096,
            max_num_seqs=32,
        ).llm_engine
        self.sampling = vllm.SamplingParams(max_tokens=1000, ignore_eos=True, temperature=0, detokenize=False)
        self.requests = 0
        # The sequences that decode: rounds of one pass go on with those of the round before, some tokens longer.
        self.decoding, self.names = None, []
        return {"version": vllm.__version__}

    def _start(self, sequences, tokens):
        names = []
        for s in range(sequences):
            self.requests += 1
            names.append(str(self.requests))
            prompt = {"prompt_token_ids": [100 + (s * 31 + i) % 5000 for i in range(tokens)]}
            self.engine.add_request(names[-1], prompt, self.sampling)
        return names

    def _step(self):
        """Seconds of a step, and how many sequences got a token."""
        begin = time.perf_counter()
        outputs = self.engine.step()
        return time.perf_counter() - begin, len(outputs)

    def _end(self, names):
        self.decoding, self.names = None, []
        self.engine.abort_request(names)
        while self.engine.has_unfinished_requests():
            self.engine.step()

    def decode(self, sequences, context, times, warmUp):
        if self.decoding != (sequences, context):
            self._end(self.names)
            self.names = self._start(sequences, context)
            self.decoding = (sequences, context)
            # Until every sequence is past its prompt.
            while self._step()[1] < sequences:
                pass
        if warmUp:
            self._step()
        seconds = []
        end = time.perf_counter() + MAX_SECONDS
        while len(seconds) < times and (not seconds or time.perf_counter() < end):
            seconds.append(self._step()[0])
        return {"seconds": seconds}

    def prefill(self, tokens, times, warmUp):
        self._end(self.names)
        seconds = []
        for _ in range(times + (1 if warmUp else 0)):
            names = self._start(1, tokens)
            seconds.append(self._step()[0])
            self._end(names)
        return {"seconds": seconds[-times:]}


# What libraries print must not get between the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

if __name__ == "__main__":
    engine = Engine()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(engine, command.pop("op"))(**command)
        except Exception as error:  # the caller names it in its page
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)
