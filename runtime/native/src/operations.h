// Every function that JavaScript sees, in the order of the contract in index.ts.
#pragma once

#include "call.h"

namespace internvl {

// the machine
Napi::Value CpuInfo(const Call& call);
Napi::Value UseDevice(const Call& call);
Napi::Value Tune(const Call& call);
Napi::Value RowRanges(const Call& call);
Napi::Value DeviceInfoOf(const Call& call);
Napi::Value SetThreads(const Call& call);
Napi::Value NanosecondsInside(const Call& call);

// memory
Napi::Value Allocate(const Call& call);
Napi::Value Free(const Call& call);
Napi::Value ScratchTensor(const Call& call);
Napi::Value IndicesOf(const Call& call);
Napi::Value Mark(const Call& call);
Napi::Value Release(const Call& call);
Napi::Value Shape(const Call& call);
Napi::Value DTypeOf(const Call& call);
Napi::Value Write(const Call& call);
Napi::Value ReadFloat32(const Call& call);
Napi::Value ReadRow(const Call& call);
Napi::Value StartRead(const Call& call);
Napi::Value FinishRead(const Call& call);
Napi::Value MemoryBytes(const Call& call);

// recorded work
Napi::Value BeginGraph(const Call& call);
Napi::Value EndGraph(const Call& call);
Napi::Value LaunchGraph(const Call& call);
Napi::Value FreeGraph(const Call& call);

// checkpoint
Napi::Value OpenFile(const Call& call);
Napi::Value CloseFile(const Call& call);
Napi::Value FileBytes(const Call& call);
Napi::Value CopyFromFile(const Call& call);

// collectives
Napi::Value CreateCollective(const Call& call);
Napi::Value ConnectCollective(const Call& call);
Napi::Value CloseCollective(const Call& call);
Napi::Value AllReduce(const Call& call);
Napi::Value AllGatherColumns(const Call& call);
Napi::Value Broadcast(const Call& call);
Napi::Value Swap(const Call& call);

// operations
Napi::Value FillRandom(const Call& call);
Napi::Value Linear(const Call& call);
Napi::Value Convert(const Call& call);
Napi::Value Embedding(const Call& call);
Napi::Value RmsNorm(const Call& call);
Napi::Value LayerNorm(const Call& call);
Napi::Value QkSumSquares(const Call& call);
Napi::Value QkNorm(const Call& call);
Napi::Value Gelu(const Call& call);
Napi::Value SiluMul(const Call& call);
Napi::Value AddScaled(const Call& call);
Napi::Value AddRmsNorm(const Call& call);
Napi::Value CopyRows(const Call& call);
Napi::Value GatherRows(const Call& call);
Napi::Value ResolveIds(const Call& call);
Napi::Value ChooseTokens(const Call& call);
Napi::Value DrawToken(const Call& call);
Napi::Value LogSumExp(const Call& call);
Napi::Value TopTokens(const Call& call);

// vision
Napi::Value Patchify(const Call& call);
Napi::Value VisionEmbed(const Call& call);
Napi::Value VisionAttention(const Call& call);
Napi::Value PixelShuffle(const Call& call);
Napi::Value ResizeBicubic(const Call& call);

// language
Napi::Value RopeAndStoreKv(const Call& call);
Napi::Value PagedAttention(const Call& call);

}  // namespace internvl
