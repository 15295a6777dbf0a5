// Makes the tests of the native operations those of the CUDA backend, run by the emulation: scripts/build-native.sh --cuda-on-host builds it.
import { join } from 'node:path';

process.env['INTERNVL_NATIVE_ADDON'] ??= join(
  import.meta.dirname,
  '../../build/native-cuda-on-host/internvl_native.node',
);
const { native } = await import('../../runtime/native/index.ts');
native().useDevice('cuda', 0);
