// proto3 strings are UTF-8: the default decoder replaces what is not, ours refuses it. Each thread that decodes messages imports this.

import { configureTextEncoding, getTextEncoding } from '@bufbuild/protobuf/wire';

const lenient = getTextEncoding();
const decodeUtf8 = lenient.decodeUtf8.bind(lenient);
configureTextEncoding({ ...lenient, decodeUtf8: (bytes) => decodeUtf8(bytes, true) });
