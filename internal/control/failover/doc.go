// Package failover decides when a region has lost its roles, who gets them, and
// when they go back. It is pure: what the region that leads the control group
// knows goes in, commands for the group come out. It has no clock, goroutine or
// socket; package region runs it, on the leader only.
//
// To the leader each region that stores data is in one of these states:
//
//	state     seen                                                 what is done
//	waiting   never had a lease: it was never started              nothing; its roles wait for it
//	live      its lease runs, and most voters reach it             nothing
//	suspect   its lease has lapsed, or a majority of all voters    nothing: a region that renews is alive
//	          can't reach it, but not both                         to somebody, and one that does not renew
//	                                                               may only be slow
//	lost      both                                                 Fence: it is detached, and successors get
//	                                                               its roles, but for those of pinned tables
//	detached  fenced, and a majority can't reach it                what found no successor before gets one
//	                                                               when there is one
//	returning fenced, and reached again                            nothing: it proposes its own Rejoin, once
//	                                                               it has taken out what lies beyond the cutoffs
//	back      live, and roles that have their seat there are held  Switch, once it has been healthy for
//	          by others                                            ReturnAfter without a break
//
// Two signals are needed, so that a cut between two regions costs nothing as long
// as both reach the majority, and a majority that loses sight of a region waits
// for it to have stopped by itself. A region is healthy while it is live, serves,
// is reached by everybody who answers, and lags behind none of them.
//
// A successor is a replica that is live, serves and can be reached by the leader:
// the region that the role was being switched to, or from; then by the table's
// list; then by the least lag behind the lost region.
package failover
