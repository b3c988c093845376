// What takes a while is told, a line before and a line after it, to who asked for it.

#ifndef JDA_ASCEND_LAUNCHER_PROGRESS_H_
#define JDA_ASCEND_LAUNCHER_PROGRESS_H_

#include <string>

namespace jda_ascend {

using Listener = void (*)(const char* line);

// Null: nobody listens, as at first.
void TellTo(Listener listener);

void Tell(const std::string& line);

}  // namespace jda_ascend

#endif  // JDA_ASCEND_LAUNCHER_PROGRESS_H_
