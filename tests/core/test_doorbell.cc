// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/doorbell.h"
#include "check.h"

namespace pyinfer {
namespace {

bool HasRung(const Doorbell& doorbell) {
  pollfd bell{doorbell.fd(), POLLIN, 0};
  return poll(&bell, 1, 0) == 1;
}

TEST(Doorbell, ItHasRungUntilItIsLowered) {
  Doorbell doorbell;
  const DoorbellRinger one(dup(doorbell.ringing_fd())), two(dup(doorbell.ringing_fd()));
  CHECK(!HasRung(doorbell));
  doorbell.Lower();  // does not wait
  for (const DoorbellRinger* ringer : {&one, &two, &two}) ringer->Ring();
  CHECK(HasRung(doorbell));
  doorbell.Lower();
  CHECK(!HasRung(doorbell));
}

// However many rings nobody has heard, who rings does not wait, and it can be lowered.
TEST(Doorbell, ItDoesNotFillUp) {
  Doorbell doorbell;
  const DoorbellRinger ringer(dup(doorbell.ringing_fd()));
  for (int i = 0; i < 100'000; ++i) ringer.Ring();
  int lowered = 0;
  for (; HasRung(doorbell); ++lowered) doorbell.Lower();
  CHECK(lowered > 0 && lowered < 100);
  ringer.Ring();
  CHECK(HasRung(doorbell));
}

// Who rings has an open file of its own: it can not make the other end wait.
TEST(Doorbell, TheEndsDoNotShareTheirFlags) {
  Doorbell doorbell;
  CHECK_EQ(fcntl(doorbell.ringing_fd(), F_SETFL, 0), 0);
  CHECK((fcntl(doorbell.fd(), F_GETFL) & O_NONBLOCK) != 0);
  char byte = 0;
  CHECK_EQ(read(doorbell.ringing_fd(), &byte, 1), ssize_t{-1});
}

TEST(Doorbell, TheRingersNumberIsOutOfTheWay) {
  Doorbell doorbell;
  const int given = dup(doorbell.ringing_fd());
  const DoorbellRinger ringer(given);
  CHECK_EQ(fcntl(given, F_GETFD), -1);
  DoorbellRinger().Ring();  // rings nowhere
  CHECK(!HasRung(doorbell));
}

TEST(Doorbell, ItKnowsWhetherAnybodyHears) {
  Doorbell doorbell;
  CHECK(!doorbell.attended());
  doorbell.Attend();
  doorbell.Attend();
  doorbell.Leave();
  CHECK(doorbell.attended());
  doorbell.Leave();
  CHECK(!doorbell.attended());
}

}  // namespace
}  // namespace pyinfer
