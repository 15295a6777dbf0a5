// The ranks' group of one environment.
#pragma once

namespace internvl {

class Collective {};

}  // namespace internvl
