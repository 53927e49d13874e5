//! The scripts. Each is one round trip, and the server does nothing else while it runs.
//!
//! All names that a script uses share their hash tag, so they are on one node of a cluster.

mod change;
mod list;

pub(super) use change::CHANGE;
pub(super) use list::{GAVE_UP, LIST};

use redis::Script;

/// What all of them begin with.
const READ: &str = r"
-- What each of these names says, if there is anything: all at once, which is quicker. What is empty or
-- of another type is somebody else's, and says nothing that a record does.
local function read(names)
    local says, silent = redis.call('MGET', unpack(names)), {}
    for n, name in ipairs(names) do
        if not says[n] then
            silent[#silent + 1] = name
        elseif says[n] == '' then
            says[n] = ' '
        end
    end
    if #silent > 0 and redis.call('EXISTS', unpack(silent)) > 0 then
        for n, name in ipairs(names) do
            if not says[n] and redis.call('EXISTS', name) == 1 then
                says[n] = ' '
            end
        end
    end
    return says
end
";

fn script(code: &str) -> Script {
    Script::new(&[READ, code].concat())
}
